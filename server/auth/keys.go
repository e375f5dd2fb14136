package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	// maxKeysBytes bounds a set's text, maxKeys how many signatures a token without
	// `kid` may cost.
	maxKeysBytes = 1 << 20
	maxKeys      = 64
	minRSABits   = 2048
)

// algorithms are all that some key may have: never none. Which of them a token may
// be signed by, its key's type says.
var algorithms = slices.Concat(rsaAlgorithms, hmacAlgorithms, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.EdDSA})

var (
	rsaAlgorithms  = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	hmacAlgorithms = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}
)

// key verifies signatures of some algorithms.
type key struct {
	id         string // empty: of any `kid`
	algorithms []jose.SignatureAlgorithm
	verify     any // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, []byte
}

// keySet is read only. Two sets are the same if they are one.
type keySet struct {
	keys []key
	text []byte // as it was read
}

// fitting returns the keys that a token of kid and alg may be signed with.
func (s *keySet) fitting(kid, alg string) (fitting []key) {
	for _, k := range s.keys {
		if (kid == "" || k.id == "" || k.id == kid) && slices.Contains(k.algorithms, jose.SignatureAlgorithm(alg)) {
			fitting = append(fitting, k)
		}
	}
	return fitting
}

// parseKeys reads a JWKS or, of a file, PEM. Secrets are for files alone: what
// everybody may fetch is none.
func parseKeys(text []byte, inFile bool) (*keySet, error) {
	if len(text) > maxKeysBytes {
		return nil, errors.New("the set of keys is too large")
	}
	set := &keySet{text: text}
	var err error
	if trimmed := bytes.TrimSpace(text); !inFile || bytes.HasPrefix(trimmed, []byte("{")) {
		set.keys, err = parseJWKS(text, inFile)
	} else {
		set.keys, err = parsePEM(text)
	}
	switch {
	case err != nil:
		return nil, err
	case len(set.keys) == 0:
		return nil, errors.New("there is no key in it that can verify a signature")
	case len(set.keys) > maxKeys:
		return nil, fmt.Errorf("there are %d keys in it, more than %d", len(set.keys), maxKeys)
	}
	return set, nil
}

// parseJWKS leaves out keys that aren't understood, as RFC 7517 section 5 says, and
// those for something else. Errors hold nothing of the text, which may be secret.
func parseJWKS(text []byte, secrets bool) (keys []key, _ error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("not a JWKS")
	}
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		if jwk.UnmarshalJSON(raw) != nil || jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		_, secret := jwk.Key.([]byte)
		switch {
		case secret && !secrets:
			continue
		case !secret && !jwk.IsPublic():
			if secrets {
				return nil, errors.New("there is a private key in it: it belongs to the issuer alone; put its public half here")
			}
			continue
		}
		k, err := newKey(jwk.KeyID, jwk.Key)
		if err != nil {
			continue
		}
		if jwk.Algorithm != "" {
			k.algorithms = slices.DeleteFunc(slices.Clone(k.algorithms), func(a jose.SignatureAlgorithm) bool { return string(a) != jwk.Algorithm })
		}
		if len(k.algorithms) > 0 {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// parsePEM reads public keys and certificates, one after the other. Of certificates
// only the key counts.
func parsePEM(text []byte) (keys []key, _ error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			if len(bytes.TrimSpace(text)) > 0 {
				return nil, errors.New("neither a JWKS nor PEM all through")
			}
			return keys, nil
		}
		var public any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			public, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var certificate *x509.Certificate
			if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
				public = certificate.PublicKey
			}
		default:
			return nil, errors.New("want PUBLIC KEY or CERTIFICATE blocks: a private key belongs to the issuer alone")
		}
		if err != nil {
			return nil, errors.New("a block of it can't be read")
		}
		k, err := newKey("", public)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
}

// newKey says which algorithms a key is for: those of its type, and curve.
func newKey(id string, verify any) (key, error) {
	k := key{id: id, verify: verify}
	switch public := verify.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSABits {
			return k, fmt.Errorf("an RSA key has %d bits, less than %d", public.N.BitLen(), minRSABits)
		}
		k.algorithms = rsaAlgorithms
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			k.algorithms = []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			k.algorithms = []jose.SignatureAlgorithm{jose.ES384}
		case elliptic.P521():
			k.algorithms = []jose.SignatureAlgorithm{jose.ES512}
		default:
			return k, errors.New("a key is on a curve that isn't known")
		}
	case ed25519.PublicKey:
		k.algorithms = []jose.SignatureAlgorithm{jose.EdDSA}
	case []byte:
		k.algorithms = hmacAlgorithms // a short one verifies nothing, says go-jose
		if len(public) < 32 {
			return k, errors.New("a secret is shorter than 32 bytes")
		}
	default:
		return k, errors.New("a key is of a type that isn't known")
	}
	return k, nil
}
