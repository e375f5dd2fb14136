package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// fence is a block of code of a document: its language, the file that it says
// it is ("```go file=main.go") or a word on what it is for ("```sh run"), and its text.
var fence = regexp.MustCompile("(?ms)^```([a-z]+)(?: file=(\\S+)| ([a-z]+))?\n(.*?)^```$")

// block is one fence.
type block struct{ language, file, word, text string }

func blocksOf(t *testing.T, document string) (list []block) {
	t.Helper()
	for _, m := range fence.FindAllStringSubmatch(read(t, document), -1) {
		list = append(list, block{language: m[1], file: m[2], word: m[3], text: m[4]})
	}
	return list
}

// read returns a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(b)
}

// write writes a file below dir.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

// The proto on the front page leaves most out, and makes nothing up.
func TestReadme_proto(t *testing.T) {
	whole := make(map[string]bool)
	for _, b := range blocksOf(t, "docs/library.md") {
		if b.language == "proto" {
			for line := range strings.Lines(b.text) {
				whole[strings.TrimSpace(line)] = true
			}
		}
	}
	found := false
	for _, b := range blocksOf(t, "README.md") {
		if b.language == "proto" {
			found = true
			for line := range strings.Lines(b.text) {
				require.True(t, strings.TrimSpace(line) == "" || whole[strings.TrimSpace(line)], line)
			}
		}
	}
	require.True(t, found)
}
