package front

import (
	"encoding/base64"
	"io"
	"strings"
	"testing"
)

// FuzzIsBase64 takes the library's word for what is base64, as Connect does.
func FuzzIsBase64(f *testing.F) {
	for _, text := range []string{"", "e30", "e30=", "e30%3D", "e3", "e", "e30==", "%%%", "a+b/", "a-b_", "e=30", "====", "=", "e30=e30="} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "%&\r\n") {
			return // escaped otherwise, or ignored by the decoder
		}
		encoding := base64.RawURLEncoding
		if len(text)%4 == 0 {
			encoding = base64.URLEncoding
		}
		_, err := io.ReadAll(base64.NewDecoder(encoding, strings.NewReader(text)))
		if got := isBase64(text); got != (err == nil) {
			t.Fatalf("isBase64(%q) = %t, the decoder says %v", text, got, err)
		}
	})
}
