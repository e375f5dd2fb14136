package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// encodings are the content codings that a build of the page leaves beside its
// files, by the suffixes of their names. Where a client likes several equally,
// the first one counts, which is the smallest.
var encodings = []struct{ name, suffix string }{
	{"br", ".br"},
	{"gzip", ".gz"},
}

// file is one file of the page in all its forms. It is never changed.
type file struct {
	name  string
	etag  string            // of the plain form, without quotes; others append their encoding
	forms map[string][]byte // by encoding; the plain form under "identity"
}

// readFiles reads what a build left, by path. An empty map: there was no build.
func readFiles(app fs.FS) (map[string]*file, error) {
	files := make(map[string]*file)
	err := fs.WalkDir(app, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || isEncoded(name) {
			return err
		}
		files[name], err = readFile(app, name)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	return files, err
}

func readFile(app fs.FS, name string) (*file, error) {
	plain, err := fs.ReadFile(app, name)
	if err != nil {
		return nil, err
	}
	f := newFile(name, plain)
	for _, encoding := range encodings {
		form, err := fs.ReadFile(app, name+encoding.suffix)
		if err == nil {
			f.forms[encoding.name] = form
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return f, nil
}

func newFile(name string, plain []byte) *file {
	sum := sha256.Sum256(plain)
	return &file{name: name, etag: hex.EncodeToString(sum[:16]), forms: map[string][]byte{"identity": plain}}
}

// with returns a page with something more in its head, in the plain form alone.
func (f *file) with(element string) *file {
	return newFile(f.name, bytes.Replace(f.forms["identity"], []byte("</title>"), []byte("</title>"+element), 1))
}

// isEncoded tells a form of a file from a file: it has no address of its own.
func isEncoded(name string) bool {
	for _, encoding := range encodings {
		if strings.HasSuffix(name, encoding.suffix) {
			return true
		}
	}
	return false
}

// serve answers with the form that the client likes best.
func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	if strings.HasPrefix(f.name, "assets/") {
		// The name holds a hash of the content.
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		// The page itself names its files by their hashes: it must be asked for
		// each time, and is cheap when it is the same.
		header.Set("Cache-Control", "no-cache")
	}
	// Not from the system's tables, which differ: a module must be JavaScript.
	if kind := contentType(f.name); kind != "" {
		header.Set("Content-Type", kind)
	}
	encoding := f.choose(r.Header.Values("Accept-Encoding"))
	form, etag := f.forms[encoding], f.etag
	if len(f.forms) > 1 {
		header.Add("Vary", "Accept-Encoding")
	}
	if encoding != "identity" {
		header.Set("Content-Encoding", encoding)
		// ServeContent leaves it out, for fear that somebody compresses what it writes.
		header.Set("Content-Length", strconv.Itoa(len(form)))
		etag += "-" + encoding
	}
	header.Set("ETag", `"`+etag+`"`)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(form))
}

// choose returns the encoding that there is a form in and that the client gives
// the most weight. Nothing that it says keeps it from the plain form, where
// there is no other.
func (f *file) choose(accept []string) string {
	weights := parseAcceptEncoding(accept)
	best, most := "identity", 0.0
	for _, encoding := range encodings {
		if _, ok := f.forms[encoding.name]; !ok {
			continue
		}
		weight, named := weights[encoding.name]
		if !named {
			weight = weights["*"]
		}
		if weight > most {
			best, most = encoding.name, weight
		}
	}
	if weights["identity"] > most {
		return "identity"
	}
	return best
}

// parseAcceptEncoding returns the weight of each encoding named (RFC 9110,
// 12.5.3). What can't be read has none.
func parseAcceptEncoding(accept []string) map[string]float64 {
	weights := make(map[string]float64)
	for one := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		name, parameter, weighted := strings.Cut(strings.ToLower(one), ";")
		weight := 1.0
		if weighted {
			value, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q=")
			parsed, err := strconv.ParseFloat(value, 64)
			if !ok || err != nil || parsed < 0 || parsed > 1 {
				parsed = 0
			}
			weight = parsed
		}
		weights[strings.TrimSpace(name)] = weight
	}
	return weights
}

func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".html":
		return "text/html; charset=utf-8"
	default:
		return mime.TypeByExtension(ext)
	}
}
