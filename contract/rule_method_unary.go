package contract

// methodUnary: a stamp belongs to one response, topics to one request.
var methodUnary = rule{"method-unary", func(s *schema, report report) {
	for _, d := range s.methods {
		if d.desc.IsStreamingClient() || d.desc.IsStreamingServer() {
			option := "reads"
			switch {
			case d.writes != nil:
				option = "writes"
			case d.reads == nil:
				continue // method-declared says it
			}
			report(&d.element, sourcePath(d.on),
				"it streams, and (freshet.v1.%s) is for unary methods: one request, one stamped response", option)
		}
	}
}}
