package conformance

import "net/http"

// ClientFault is what is wrong with a client: what stands between it and the server
// spoils what it sends and hears, and Reports what it says that it shows; nil: nothing.
type ClientFault struct {
	Front func(http.Handler) http.Handler
	// Reports changes what the client says of a query, or leaves it out.
	Reports func(query string, shown *string, stale *bool) bool
}

// With is the config of a client with a fault.
func (c ClientConfig) With(f ClientFault) ClientConfig {
	c.front = f.Front
	if f.Reports != nil {
		c.reports = func(r *report) bool {
			shown := r.shown()
			ok := f.Reports(r.Query, &shown, &r.Stale)
			if shown != r.shown() {
				r.Error = shown
			}
			return ok
		}
	}
	return c
}
