package messages

import _ "embed" // for Grants

// Grants is a grants file for the service, a sample: what `serve --demo-auth` takes.
//
//go:embed grants.yaml
var Grants []byte
