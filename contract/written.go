package contract

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// exampleOf has a value of each type that Postgres reads several texts of, and writes
// one.
var exampleOf = map[uint32]string{
	oidBool: "true", oidInt2: "42", oidInt4: "42", oidInt8: "42", oidDate: "2026-11-27", oidUUID: "01928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b77",
}

// intBits are the sizes of the integers.
func intBits(oid uint32) int {
	switch oid {
	case oidInt2:
		return 16
	case oidInt4:
		return 32
	default:
		return 64
	}
}

// isWritten reports whether a value of the type has this text in a topic: what Postgres
// writes, DateStyle being ISO, but true and false for t and f. Of types that aren't in
// exampleOf every text is.
func isWritten(oid uint32, text string) bool {
	switch oid {
	case oidUUID:
		return isUUID(text)
	case oidInt2, oidInt4, oidInt8:
		return isInteger(text, intBits(oid))
	case oidBool:
		return text == "true" || text == "false"
	case oidDate:
		return isDate(text)
	}
	return true
}

func isUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isInteger(text string, bits int) bool {
	digits := strings.TrimPrefix(text, "-")
	if digits == "0" {
		return text == digits
	}
	if digits == "" || digits[0] < '1' || digits[0] > '9' {
		return false
	}
	_, err := strconv.ParseInt(text, 10, bits)
	return err == nil
}

// isDate: the Gregorian calendar, of which the year 1 BC comes before the year 1.
func isDate(text string) bool {
	if text == "infinity" || text == "-infinity" {
		return true
	}
	const (
		first = (-4713*100+11)*100 + 24 // 4714-11-24 BC, the first Julian day
		last  = (5874897*100+12)*100 + 31
	)
	text, bc := strings.CutSuffix(text, " BC")
	n := len(text) - len("-mm-dd")
	if n < 4 || n > 4 && text[0] == '0' || text[n] != '-' || text[n+3] != '-' {
		return false
	}
	year, month, day := decimal(text[:n]), decimal(text[n+1:n+3]), decimal(text[n+4:])
	if year < 1 {
		return false
	}
	if bc {
		year = 1 - year
	}
	at := (year*100+month)*100 + day
	return month >= 1 && month <= 12 && day >= 1 && day <= daysOf(year, month) && at >= first && at <= last
}

// decimal returns the number that up to seven digits are; -1: they are none.
func decimal(text string) int {
	n := 0
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' || i == 7 {
			return -1
		}
		n = 10*n + int(text[i]-'0')
	}
	return n
}

func daysOf(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// written returns the text that a value has in a topic, of a text that Postgres reads
// as that value: for an error message, so it knows the texts that people write. Empty:
// it isn't known, or the text is no value of the type.
func written(oid uint32, text string) string {
	// As Postgres' isspace: it isn't strict about what is around a value. Of a UUID it is.
	trimmed := strings.ToLower(strings.Trim(text, " \t\n\v\f\r"))
	switch oid {
	case oidUUID:
		return writtenUUID(strings.ToLower(text))
	case oidBool:
		return writtenBool(trimmed)
	case oidInt2, oidInt4, oidInt8:
		text = writtenInteger(trimmed)
	case oidDate:
		text = writtenDate(trimmed)
	}
	if !isWritten(oid, text) {
		return ""
	}
	return text
}

// writtenUUID takes braces around it and a hyphen after any four digits, or none.
func writtenUUID(text string) string {
	if inner, ok := strings.CutPrefix(text, "{"); ok {
		if text, ok = strings.CutSuffix(inner, "}"); !ok {
			return ""
		}
	}
	var digits strings.Builder
	for i := range len(text) {
		if text[i] == '-' && digits.Len()%4 == 0 && digits.Len() > 0 && digits.Len() < 32 && text[i-1] != '-' {
			continue
		}
		digits.WriteByte(text[i])
	}
	d := digits.String()
	if _, err := hex.DecodeString(d); err != nil || len(d) != 32 {
		return ""
	}
	return strings.Join([]string{d[:8], d[8:12], d[12:16], d[16:20], d[20:]}, "-")
}

func writtenInteger(text string) string {
	sign, digits := "", text
	if text != "" && (text[0] == '-' || text[0] == '+') {
		sign, digits = text[:1], text[1:]
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return ""
	}
	digits = strings.TrimLeft(digits, "0")
	switch {
	case digits == "":
		return "0"
	case sign == "-":
		return "-" + digits
	}
	return digits
}

func writtenBool(text string) string {
	begins := func(word string) bool { return strings.HasPrefix(word, text) }
	switch {
	case text == "":
	case begins("true"), begins("yes"), text == "on", text == "1":
		return "true"
	case begins("false"), begins("no"), text == "of", text == "off", text == "0":
		return "false"
	}
	return ""
}

// writtenDate takes year, month and day in this order, and of words those without a
// clock.
func writtenDate(text string) string {
	if text == "infinity" || text == "-infinity" {
		return text
	}
	text, bc := strings.CutSuffix(text, " bc")
	parts := strings.Split(text, "-")
	if len(parts) != 3 || len(parts[0]) < 4 {
		return ""
	}
	for i, part := range parts[1:] {
		if len(part) == 1 {
			parts[i+1] = "0" + part
		}
	}
	text = strings.Join(parts, "-")
	if bc {
		text += " BC"
	}
	return text
}
