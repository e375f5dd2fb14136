package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/auth"
	"github.com/freshet-dev/freshet/server/grants"
	"github.com/freshet-dev/freshet/server/messages"
)

// A call that a kept answer serves, through authentication and grants, and without
// either.
func BenchmarkAuthenticated(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(b, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(b, err)
	dir := b.TempDir()
	keys, rules := filepath.Join(dir, "k"), filepath.Join(dir, "g")
	require.NoError(b, os.WriteFile(keys, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
	sample, err := os.ReadFile("messages/grants.yaml")
	require.NoError(b, err)
	require.NoError(b, os.WriteFile(rules, sample, 0o600))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	require.NoError(b, err)
	claims, err := json.Marshal(map[string]any{"iss": "x", "sub": "ada", "aud": "us", "exp": time.Now().Unix() + 3600, "scope": "messages", "conversations": []string{"1", "7"}})
	require.NoError(b, err)
	jws, err := signer.Sign(claims)
	require.NoError(b, err)
	token, err := jws.CompactSerialize()
	require.NoError(b, err)
	for _, on := range []bool{false, true} {
		name := map[bool]string{false: "off", true: "on"}[on]
		b.Run(name, func(b *testing.B) {
			ready := make(chan struct{})
			cfg := live.MessageConfig(server.Config{DatabaseURL: testkit.Migrated(b), Logger: slog.New(slog.DiscardHandler), Slot: "bench_" + name, OnReady: func() { close(ready) }})
			if on {
				who, err := auth.New(auth.Config{KeyFile: keys, Audiences: []string{"us"}, Logger: cfg.Logger})
				require.NoError(b, err)
				file, err := grants.Open(rules, grants.Options{Logger: cfg.Logger})
				require.NoError(b, err)
				cfg.Authenticate, cfg.Authorize = who.Authenticate, server.Grants(file)
			}
			node, err := server.New(cfg)
			require.NoError(b, err)
			_, h := node.Protect(messages.Handler(node.DB(), node.HandlerOptions()...))
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- node.Run(ctx) }()
			defer func() { cancel(); require.NoError(b, <-done) }()
			<-ready
			testkit.Exec(b, cfg.DatabaseURL, "insert into messages (conversation, author, body) values ('7','a','b')")
			rev := ""
			call := func() *httptest.ResponseRecorder {
				r := httptest.NewRequest(http.MethodPost, "/messages.v1.MessageService/ListMessages", strings.NewReader(`{"parent":"conversations/7"}`))
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Authorization", "Bearer "+token)
				if rev != "" {
					r.Header.Set("Freshet-At-Least", rev)
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				return w
			}
			w := call()
			require.Equal(b, 200, w.Code, w.Body.String())
			rev = w.Header().Get("Freshet-Revision")
			require.Eventually(b, func() bool { return call().Header().Get("Freshet-Cache") == "hit" }, 10*time.Second, 10*time.Millisecond)
			b.ReportAllocs()
			for b.Loop() {
				w := call()
				_, _ = io.Copy(io.Discard, w.Body)
			}
		})
	}
}
