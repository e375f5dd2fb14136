package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSecretsIn(t *testing.T) {
	for arg, want := range map[string][]string{
		"--database-url=postgres://ada:s3cret@db.internal:5432/app": {"s3cret"},
		"postgres://ada:s3:c@r@db/app?password=another&x=1":         {"s3:c@r", "another"},
		"postgres://:x@db": {"x"},
		"host=db user=ada password=s3cret dbname=app":                  {"s3cret"},
		`host=db PASSWORD = 'it''s \' long' dbname=app`:                {`'it'`},
		"postgres://ada@db/app":                                        nil,
		"--addr=127.0.0.1:8080":                                        nil,
		"--token=eyJhbGciOiJub25lIn0.e30-_.c2ln":                       {"eyJhbGciOiJub25lIn0.e30-_.c2ln"},
		"http://127.0.0.1:8080/events?topic=a@b":                       nil,
		"--capture-url=postgres:///app?host=/run&user=a&password=p%20": {"p%20"},
	} {
		var got []string
		for _, at := range secretsIn(arg) {
			got = append(got, arg[at[0]:at[1]])
		}
		require.Equal(t, want, got, arg)
	}
}
