package contract

// Escape returns a value as `{field}` inserts it into a topic: it fills exactly one
// segment, and no two values share one. The empty value, which drops its topic, stays
// empty.
func Escape(value string) string { return string(appendEscaped(nil, value)) }
