package reuse

import (
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// HandlerOptions returns the codecs and the compression of handlers whose reads go
// through Do: the bytes of a kept answer are made once.
//
// The codecs also replace Connect's own for their errors: a message that can't be
// decoded never reaches an interceptor, and Connect's text names the Go type.
func (r *Reads) HandlerOptions() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithCodec(protoCodec{r.cache}),
		connect.WithCodec(jsonCodec{"json", r.cache}),
		// Connect registers this spelling as a codec of its own.
		connect.WithCodec(jsonCodec{"json; charset=utf-8", r.cache}),
		compression(r.cache, r.maxRequest),
	}
}

var errNotProto = errors.New("not a protobuf message")

type protoCodec struct{ cache *cache }

func (protoCodec) Name() string { return "proto" }

func (c protoCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend lets Connect reuse its buffers.
func (c protoCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	return c.cache.marshal(dst, message, "proto", proto.MarshalOptions{}.MarshalAppend)
}

func (protoCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errNotProto
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("not a valid %s: %s", m.ProtoReflect().Descriptor().FullName(), plain(err))
	}
	return nil
}

type jsonCodec struct {
	name  string
	cache *cache
}

func (c jsonCodec) Name() string { return c.name }

func (c jsonCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend lets Connect reuse its buffers.
func (c jsonCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	return c.cache.marshal(dst, message, "json", protojson.MarshalOptions{}.MarshalAppend)
}

// Unmarshal ignores fields that it doesn't know, so that clients and servers
// need not be upgraded together, as in the binary form.
func (jsonCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errNotProto
	}
	name := m.ProtoReflect().Descriptor().FullName()
	if len(data) == 0 {
		return fmt.Errorf("not a valid %s: an empty body is not a JSON object; send {}", name)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, m); err != nil {
		return fmt.Errorf("not a valid %s: %s", name, plain(err))
	}
	return nil
}

// plain drops the `proto:` prefix, which the library follows by a space or,
// at random, a no-break space.
func plain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return strings.TrimSpace(strings.TrimPrefix(text, "proto:"))
}
