package front

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protoreflect"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/internal/inflate"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

const (
	eventsPath     = "/events"
	reflectV1      = "/" + grpcreflect.ReflectV1ServiceName + "/ServerReflectionInfo"
	reflectV1Alpha = "/" + grpcreflect.ReflectV1AlphaServiceName + "/ServerReflectionInfo"
)

// handler is what the main port serves.
func (f *Front) handler(node *server.Node, services []Service) http.Handler {
	mux := http.NewServeMux()
	var served []protoreflect.ServiceDescriptor
	for _, s := range services {
		mux.Handle(s.Path, s.Handler)
		served = append(served, s.Descriptor)
	}
	mux.Handle(node.Watch())
	served = append(served, freshetv1.File_freshet_v1_invalidation_service_proto.Services().ByName("InvalidationService"))
	procedures := f.standard(mux, served, inflate.Options(f.cfg.MaxRequestBytes))
	mux.Handle(node.Events())
	mux.Handle("/", f.page())
	for pattern, public := range f.cfg.Public {
		mux.Handle(pattern, public)
	}
	called := gathered(procedures, intercept.Procedures(slices.Collect(maps.Keys(procedures)), mux))
	protected := f.protect(node, mux, called)
	return f.answering(wrap(f.perAddress(protected), f.cfg.AllowedOrigins))
}

// answering answers health at any time, and on a connection beyond the limit
// nothing else.
func (f *Front) answering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			alive(w, r)
			return
		case "/readyz":
			f.ready.ServeHTTP(w, r)
			return
		}
		if isSpare(r.Context()) {
			w.Header().Set("Connection", "close")
			unavailable(w, "too many connections are open")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// wrap is the middleware of everything but health over HTTP, outermost first: the
// request's id, headers for safety, CORS (which answers preflights, so before
// anything that may refuse).
func wrap(h http.Handler, allowedOrigins []string) http.Handler {
	return intercept.RequestID(secure(cors(allowedOrigins, h)))
}

// protect has the node ask who calls, whatever is called: only then is a procedure
// told from one that isn't there. Health needs nobody, and neither does what is
// public.
func (f *Front) protect(node *server.Node, mux *http.ServeMux, h http.Handler) http.Handler {
	_, protected := node.Protect("/", h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/"+grpchealth.HealthV1ServiceName+"/"):
			h.ServeHTTP(w, r)
		case f.isPublic(mux, r):
			mux.ServeHTTP(w, r)
		default:
			protected.ServeHTTP(w, r)
		}
	})
}

// isPublic reports whether r is for what is served to everybody: if the page is,
// what nothing but the page answers to, a read.
func (f *Front) isPublic(mux *http.ServeMux, r *http.Request) bool {
	if !f.cfg.PublicPage && len(f.cfg.Public) == 0 {
		return false
	}
	_, pattern := mux.Handler(r)
	if _, ok := f.cfg.Public[pattern]; ok {
		return true
	}
	return f.cfg.PublicPage && pattern == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}

// bodyOverhead is what a body may have beyond its message: gRPC's five bytes
// of framing, and room for what compression adds to incompressible data.
const bodyOverhead = 4 << 10

// standard mounts health and reflection for the services, and returns every
// procedure that mux serves, and whether a request of it is one message.
func (f *Front) standard(mux *http.ServeMux, services []protoreflect.ServiceDescriptor, options ...connect.HandlerOption) map[string]bool {
	health := &health{ready: f.ready, services: map[string]bool{"": true}}
	procedures := map[string]bool{
		"/" + grpchealth.HealthV1ServiceName + "/Check": true,
		"/" + grpchealth.HealthV1ServiceName + "/Watch": true,
		reflectV1:      false,
		reflectV1Alpha: false,
	}
	names := []string{grpchealth.HealthV1ServiceName}
	for _, s := range services {
		name := string(s.FullName())
		health.services[name] = true
		names = append(names, name)
		for i := range s.Methods().Len() {
			method := s.Methods().Get(i)
			procedures["/"+name+"/"+string(method.Name())] = !method.IsStreamingClient()
		}
	}
	reflector := grpcreflect.NewStaticReflector(names...)
	mux.Handle(grpchealth.NewHandler(health, options...))
	mux.Handle(grpcreflect.NewHandlerV1(reflector, options...))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, options...))
	return procedures
}
