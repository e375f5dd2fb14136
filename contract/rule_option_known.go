package contract

// optionKnown: an option of freshet.v1 that this version does not know is an
// error, never a guess: it may say that an answer depends on more.
var optionKnown = rule{"option-known", func(s *schema, report report) {
	for _, d := range s.sources {
		d.reportUnknown(report)
	}
	for _, d := range s.methods {
		d.reportUnknown(report)
	}
}}

func (e *element) reportUnknown(report report) {
	for _, num := range e.unknown {
		report(e, e.at, "its options of freshet.v1 have a field %d that this version of Freshet does not know", num)
	}
}
