package reuse

import (
	"bytes"
	"hash/maphash"
	"slices"

	"google.golang.org/protobuf/proto"
)

// form is a kept answer as one codec writes it: thousands who refetch the same
// cost one encoding, and one compression. The bytes are never changed.
type form struct {
	codec   string
	raw     []byte
	sum     uint64 // of raw
	gzipped []byte // nil: nobody has asked for it yet; guarded by cache.mu
}

func (f *form) size() int { return len(f.raw) + len(f.gzipped) }

// form returns a kept answer in a codec's form, if somebody has asked for that
// before.
func (c *cache) form(message proto.Message, codec string) (raw []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept := c.byMessage[message]; kept != nil {
		for _, f := range kept.forms {
			if f.codec == codec {
				return f.raw, true
			}
		}
	}
	return nil, false
}

// keepForm keeps raw, which is copied, if the answer is still kept.
func (c *cache) keepForm(message proto.Message, codec string, raw []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.byMessage[message]
	if kept == nil || slices.ContainsFunc(kept.forms, func(f *form) bool { return f.codec == codec }) {
		return // or somebody else was as fast
	}
	f := &form{codec: codec, raw: bytes.Clone(raw), sum: maphash.Bytes(c.seed, raw)}
	kept.forms = append(kept.forms, f)
	c.bySum[f.sum] = f
	c.grow(f.size())
}

// formOf finds the form with these bytes; a compressor is given nothing else.
func (c *cache) formOf(raw []byte) (f *form, gzipped []byte) {
	sum := maphash.Bytes(c.seed, raw)
	c.mu.Lock()
	if f = c.bySum[sum]; f != nil {
		gzipped = f.gzipped
	}
	c.mu.Unlock()
	if f == nil || !bytes.Equal(f.raw, raw) {
		return nil, nil
	}
	return f, gzipped
}

func (c *cache) keepGzipped(f *form, gzipped []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bySum[f.sum] != f || f.gzipped != nil {
		return // pushed out meanwhile, or somebody else was as fast
	}
	f.gzipped = gzipped
	c.grow(len(gzipped))
}

// marshal writes a message by a codec, or takes the form that is kept.
func (c *cache) marshal(dst []byte, message any, codec string, encode func([]byte, proto.Message) ([]byte, error)) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errNotProto
	}
	if raw, ok := c.form(m, codec); ok {
		return append(dst, raw...), nil
	}
	out, err := encode(dst, m)
	if err == nil {
		c.keepForm(m, codec, out[len(dst):])
	}
	return out, err
}
