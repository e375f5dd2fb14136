package contract

// topicsRequired: an option without a template says nothing. Every method needs
// topics to be stamped and granted, every source to be of any use.
var topicsRequired = rule{"topics-required", func(s *schema, report report) {
	const missing = "%s has no topics; name at least one template"
	for _, d := range s.sources {
		if d.option != nil && len(d.option.GetTopics()) == 0 {
			report(&d.element, d.atOption(), missing, "source")
		}
	}
	for _, d := range s.methods {
		if d.reads != nil && len(d.reads.GetTopics()) == 0 {
			report(&d.element, d.atReads(), missing, "reads")
		}
		if d.writes != nil && len(d.writes.GetTopics()) == 0 {
			report(&d.element, d.atWrites(), missing, "writes")
		}
	}
}}
