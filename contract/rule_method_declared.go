package contract

// methodDeclared: each method of a service says either what it reads or what it
// writes.
var methodDeclared = rule{"method-declared", func(s *schema, report report) {
	for _, d := range s.methods {
		switch {
		case d.reads == nil && d.writes == nil:
			report(&d.element, sourcePath(d.on),
				"it declares neither (freshet.v1.reads) nor (freshet.v1.writes); a method without a contract belongs to a service of its own")
		case d.reads != nil && d.writes != nil:
			report(&d.element, d.atWrites(),
				"it declares both (freshet.v1.reads) and (freshet.v1.writes); a method that changes data is a write only")
		}
	}
}}
