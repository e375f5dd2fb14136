package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/claims"
	"github.com/freshet-dev/freshet/server/grants"
)

// callerFlags say who is asked about.
type callerFlags struct {
	Claims string `xor:"caller" placeholder:"FILE" help:"Claims of the caller, a JSON object; - for standard input."`
	Token  string `xor:"caller" placeholder:"TOKEN" help:"Token of the caller, a JWT, which is not verified; - for standard input, so that it is in no process list. Without claims and token: somebody who isn't known."`

	token string // that of Token, once caller has read it
}

// inquiry is a grants file, and the caller who is asked about.
type inquiry struct {
	set    *grants.Set
	caller grants.Caller
}

// ask reads a grants file, and the caller's claims.
func (c *callerFlags) ask(file string) (*inquiry, error) {
	set, err := readGrants(file)
	if err != nil {
		return nil, err
	}
	caller, err := c.caller()
	return &inquiry{set, caller}, err
}

func readGrants(file string) (*grants.Set, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, noGrants(err)
	}
	return grants.Parse(file, text)
}

// explain prints for each topic (of the action Admin, an empty one) whether the caller
// may, and why; errFindings says that it may not, with one of them.
func (i *inquiry) explain(ctx context.Context, out io.Writer, action grants.Action, topics []string) error {
	denied := false
	for _, topic := range topics {
		if action != grants.Admin {
			if err := freshet.CheckTopic(topic); err != nil {
				return err
			}
		}
		e, err := i.set.Explain(ctx, i.caller, action, topic)
		if err != nil {
			return err
		}
		fmt.Fprint(out, e)
		denied = denied || !e.Allowed
	}
	if denied {
		return errFindings
	}
	return nil
}

func (c *callerFlags) caller() (caller grants.Caller, err error) {
	var text []byte
	switch {
	case c.Claims == "-":
		text, err = io.ReadAll(os.Stdin)
	case c.Claims != "":
		if text, err = os.ReadFile(c.Claims); err != nil {
			return caller, fmt.Errorf("--claims: want a file with the claims as a JSON object, or - for standard input: %w", err)
		}
	case c.Token != "":
		if c.token = c.Token; c.token == "-" {
			var given []byte
			if given, err = io.ReadAll(os.Stdin); err != nil {
				return caller, err
			}
			c.token = strings.TrimSpace(string(given))
		}
		text, err = claimsOf(c.token)
	default:
		return caller, nil
	}
	if err != nil {
		return caller, err
	}
	if caller.Claims, err = claims.Parse(text); err != nil { // as the server reads a token; its errors quote it
		return caller, errors.New(`the claims are not a JSON object, as {"sub":"ada","org_id":"acme"}`)
	}
	caller.Issuer, _ = caller.Claims["iss"].(string)
	caller.Subject, _ = caller.Claims["sub"].(string)
	return caller, nil
}

// claimsOf returns the payload of a JWT in its compact form. Its text is in no error.
func claimsOf(token string) ([]byte, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("the token is not a JWT: it has not three parts with dots in between; give its claims by --claims")
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errors.New("the token is not a JWT: its second part is not base64url")
	}
	return claims, nil
}
