package adopt

import (
	"strings"
	"unicode"
)

// snake turns a message's name into a table's: TaskLabel into task_label.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// word is what remains of a name of Postgres' without quotes: "Count Sheets" is
// count_sheets.
func word(name string) string {
	parts := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return strings.Join(parts, "_")
}

// isName reports whether a template can have a column of that name.
func isName(name string) bool {
	for i, r := range name {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
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
