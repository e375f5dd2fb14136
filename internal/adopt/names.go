package adopt

import (
	"strings"
	"unicode"
)

// snake is a name of proto or Postgres as topics have it: TaskLabel is task_label, and so
// are taskLabel and "Task Label".
func snake(name string) string {
	var parts []string
	for _, part := range strings.FieldsFunc(name, func(r rune) bool { return r != '_' && !isAlphanumeric(r) }) {
		var b strings.Builder
		runes := []rune(part)
		for i, r := range runes {
			if unicode.IsUpper(r) && i > 0 && runes[i-1] != '_' && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
				b.WriteByte('_')
			}
			b.WriteRune(unicode.ToLower(r))
		}
		parts = append(parts, b.String())
	}
	return strings.Join(parts, "_")
}

// same reports whether two names are one, however each writes words: result_id, resultId,
// "Result Id" and resultid are.
func same(a, b string) bool { return letters(a) == letters(b) }

// letters are what remains of a name without case and what parts its words.
func letters(name string) string {
	return strings.Map(func(r rune) rune {
		if !isAlphanumeric(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

func isAlphanumeric(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// isName reports whether a template can have a column of that name.
func isName(name string) bool {
	for i, r := range name {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// isTableName reports whether the option `table` can say the name of a table, or a schema.
func isTableName(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r == '.' || r == '"' || unicode.IsControl(r) }) && strings.TrimSpace(name) == name
}

// plural is the regular English plural of a noun.
func plural(noun string) string {
	switch {
	case strings.HasSuffix(noun, "y") && len(noun) > 1 && !strings.ContainsRune("aeiou", rune(noun[len(noun)-2])):
		return noun[:len(noun)-1] + "ies"
	case strings.HasSuffix(noun, "s"), strings.HasSuffix(noun, "x"), strings.HasSuffix(noun, "ch"), strings.HasSuffix(noun, "sh"):
		return noun + "es"
	default:
		return noun + "s"
	}
}

// singular undoes plural.
func singular(noun string) string {
	for _, s := range []string{strings.TrimSuffix(noun, "ies") + "y", strings.TrimSuffix(noun, "es"), strings.TrimSuffix(noun, "s")} {
		if plural(s) == noun {
			return s
		}
	}
	return noun
}

// collection is how a topic names what a column tells apart: projects, of project
// or project_id.
func collection(column string) string {
	noun := strings.TrimSuffix(column, "_id")
	if noun == "" || noun == "id" {
		return column
	}
	return plural(noun)
}
