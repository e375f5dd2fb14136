package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionScripts ask the program itself what can follow, so that they fit every
// version of it: `freshet complete -- WORD…` answers a candidate per line, with a
// tab and what it is. No line: names of files.
var completionScripts = map[string]string{
	"bash": `# bash completion of freshet: source it, or put it into /usr/share/bash-completion/completions/freshet
_freshet() {
	local line
	COMPREPLY=()
	while IFS= read -r line; do
		COMPREPLY+=("${line%%$'\t'*}")
	done < <("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	# Bash splits words at "=".
	if [[ ${COMP_WORDS[COMP_CWORD]} == = || ${COMP_WORDS[COMP_CWORD-1]} == = ]]; then
		COMPREPLY=("${COMPREPLY[@]#*=}")
	fi
}
complete -o default -F _freshet freshet
`,
	"zsh": `#compdef freshet
# zsh completion of freshet: put it into a folder of $fpath, as _freshet
_freshet() {
	local -a lines described
	local line
	lines=("${(@f)$("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	for line in $lines; do
		[[ -n $line ]] && described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	if (( $#described )); then _describe -V freshet described; else _files; fi
}
if [ "$funcstack[1]" = _freshet ]; then _freshet "$@"; else compdef _freshet freshet; fi
`,
	"fish": `# fish completion of freshet: put it into ~/.config/fish/completions/freshet.fish
function __freshet_complete
	set -l words (commandline -opc) (commandline -ct)
	set -l found ($words[1] complete -- $words[2..] 2>/dev/null)
	test (count $found) -gt 0; and printf '%s\n' $found; or __fish_complete_path (commandline -ct)
end
complete -c freshet -f -a '(__freshet_complete)'
`,
}

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

// Help is printed by `freshet completion --help`.
func (*completionCmd) Help() string {
	return `For this shell alone, or for good as the script's first lines say:

  source <(freshet completion bash)`
}

// Run prints the script.
func (c *completionCmd) Run(to streams) error {
	_, err := fmt.Fprint(to.out, completionScripts[c.Shell])
	return err
}

type completeCmd struct {
	Words []string `arg:"" optional:"" help:"The words behind the program's name, after --; the last one is being written."`
}

// Run prints a candidate per line.
func (c *completeCmd) Run(to streams, parsed *kong.Context) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	var lines strings.Builder
	for _, found := range complete(parsed.Model.Node, joined(words)) {
		fmt.Fprintf(&lines, "%s\t%s\n", found.word, found.help)
	}
	_, err := fmt.Fprint(to.out, lines.String())
	return err
}

// candidate is a word that can stand where the last one is being written.
type candidate struct{ word, help string }

// joined puts together what bash has split: `--log-format`, `=`, `te`.
func joined(words []string) (whole []string) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		if last := len(whole) - 1; word == "=" && last >= 0 && strings.HasPrefix(whole[last], "--") {
			whole[last] += "="
			if i+1 < len(words) {
				i++
				whole[last] += words[i]
			}
			continue
		}
		whole = append(whole, word)
	}
	return whole
}

// complete lists what the last word can become: the command's own commands, its
// flags once a dash is written, and the values of a flag that has a list of them.
func complete(node *kong.Node, words []string) (found []candidate) {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	flags := slices.Clone(node.Flags)
	var awaits *kong.Flag // its value is the next word
	for _, word := range words[:len(words)-1] {
		switch {
		case awaits != nil:
			awaits = nil
		case strings.HasPrefix(word, "--"):
			awaits = flagNamed(flags, strings.TrimPrefix(word, "--"))
			if awaits != nil && (awaits.IsBool() || awaits.IsCounter()) {
				awaits = nil
			}
		default:
			for _, child := range node.Children {
				if child.Name == word {
					node, flags = child, append(flags, child.Flags...)
					break
				}
			}
		}
	}
	if awaits != nil {
		return valuesOf(awaits.Value, "", last)
	}
	if name, value, ok := strings.Cut(last, "="); ok && strings.HasPrefix(name, "--") {
		if flag := flagNamed(flags, strings.TrimPrefix(name, "--")); flag != nil {
			return valuesOf(flag.Value, name+"=", value)
		}
		return nil
	}
	if strings.HasPrefix(last, "-") {
		for _, flag := range flags {
			if word := "--" + flag.Name; !flag.Hidden && strings.HasPrefix(word, last) {
				found = append(found, candidate{word, firstLine(flag.Help)})
			}
		}
		return found
	}
	for _, child := range node.Children {
		if !child.Hidden && strings.HasPrefix(child.Name, last) {
			found = append(found, candidate{child.Name, firstLine(child.Help)})
		}
	}
	for _, arg := range node.Positional {
		found = append(found, valuesOf(arg, "", last)...)
	}
	return found
}

func flagNamed(flags []*kong.Flag, name string) *kong.Flag {
	for _, flag := range flags {
		if flag.Name == name {
			return flag
		}
	}
	return nil
}

// valuesOf lists the values that there are, if there is a list of them.
func valuesOf(value *kong.Value, before, written string) (found []candidate) {
	if value.Enum == "" {
		return nil
	}
	for _, one := range value.EnumSlice() {
		if strings.HasPrefix(one, written) {
			found = append(found, candidate{before + one, firstLine(value.Help)})
		}
	}
	return found
}
