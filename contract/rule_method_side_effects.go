package contract

import "google.golang.org/protobuf/types/descriptorpb"

// methodSideEffects: reads are NO_SIDE_EFFECTS, so that they may be repeated,
// shared and sent as GET; writes are not.
var methodSideEffects = rule{"method-side-effects", func(s *schema, report report) {
	for _, d := range s.methods {
		options, _ := d.desc.Options().(*descriptorpb.MethodOptions)
		pure := options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
		switch {
		case d.reads != nil && d.writes == nil && !pure:
			report(&d.element, d.atReads(), "it declares (freshet.v1.reads) and must say: option idempotency_level = NO_SIDE_EFFECTS")
		case d.writes != nil && pure:
			report(&d.element, d.atWrites(), "it declares (freshet.v1.writes) and can't be NO_SIDE_EFFECTS")
		}
	}
}}
