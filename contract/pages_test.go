package contract

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each rule has a page, whose wrong example breaks that rule and whose right one
// breaks none.
func TestRules_pages(t *testing.T) {
	const docs = "../docs/lint"
	index, err := os.ReadFile(filepath.Join(docs, "README.md"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(docs, "*.md"))
	require.NoError(t, err)
	require.Len(t, files, len(rules)+2, "a page for each rule, the index, and the audit")
	for _, r := range rules {
		require.Contains(t, string(index), "["+r.name+"]("+r.name+".md)")
		wrong, right := pageExamples(t, filepath.Join(docs, r.name+".md"))
		if r.name == optionKnown.name {
			require.Empty(t, wrong, "what this version doesn't know can't be spelled with its own options")
			continue
		}
		require.NotEmpty(t, wrong, r.name)
		require.NotEmpty(t, right, r.name)
		for _, source := range wrong {
			require.NotEmpty(t, ruleFindings(lintPage(t, source), r.name), "%s: %s", r.name, source)
		}
		for _, source := range right {
			require.Empty(t, lintPage(t, source), "%s: %s", r.name, source)
		}
	}
}

var pageExample = regexp.MustCompile("(?ms)^```proto (wrong|right)\n(.*?)^```$")

func pageExamples(t *testing.T, file string) (wrong, right []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "# "+strings.TrimSuffix(filepath.Base(file), ".md")+": "))
	for _, m := range pageExample.FindAllStringSubmatch(string(text), -1) {
		if m[1] == "wrong" {
			wrong = append(wrong, m[2])
		} else {
			right = append(right, m[2])
		}
	}
	return wrong, right
}

// lintPage lints an example, which leaves out the head of its file.
func lintPage(t *testing.T, source string) []Finding {
	t.Helper()
	fd := compileProto(t, "page.proto", `syntax = "proto3"; package tasks.v1; import "freshet/v1/options.proto"; `+source)
	found, err := Lint(imageOf(t, fd))
	require.NoError(t, err)
	return found
}
