package main

import (
	"os"
	"regexp"
	"strings"
	"unsafe"
)

// secrets matches passwords in what may be a connection string: a URL's userinfo,
// and password= (of its query, or of the keyword form); and what is a JWT.
var secrets = regexp.MustCompile(`://[^:/?#@\s]*:([^/?#\s]+)@|(?i)\b(?:ssl)?password\s*=\s*('(?:[^'\\]|\\.)*'|[^&\s']+)|\b(eyJ[\w-]*\.[\w-]+\.[\w-]*)`)

// takeArgs returns copies of the program's arguments, and blots secrets out of
// the originals, which everybody on this machine sees in the process list for as
// long as the program runs. On systems whose list doesn't show a process' own
// memory that changes nothing; the environment and PGPASSFILE are for those.
func takeArgs() []string {
	args := make([]string, 0, len(os.Args))
	for _, arg := range os.Args[1:] {
		args = append(args, strings.Clone(arg))
		for _, at := range secretsIn(arg) {
			// The runtime doesn't copy what the kernel has put on the stack: a
			// string of os.Args is the argument itself, and writable.
			secret := unsafe.Slice(unsafe.StringData(arg), len(arg))[at[0]:at[1]] //nolint:gosec // see above
			for i := range secret {
				secret[i] = '*'
			}
		}
	}
	return args
}

// secretsIn returns the bounds of each password.
func secretsIn(arg string) (bounds [][2]int) {
	for _, match := range secrets.FindAllStringSubmatchIndex(arg, -1) {
		for group := 2; group < len(match); group += 2 {
			if match[group] >= 0 {
				bounds = append(bounds, [2]int{match[group], match[group+1]})
			}
		}
	}
	return bounds
}
