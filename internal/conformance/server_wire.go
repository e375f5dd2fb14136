package conformance

import (
	"encoding/base64"
	"net/http"
	"net/textproto"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	grpcContent    = "application/grpc+json"
	grpcWebContent = "application/grpc-web+json"
)

var wireCases = []Case{
	{Name: "http2-call", Section: "", Says: "over HTTP/1.1 and HTTP/2 (h2c without TLS)", server: func(t *trial) {
		a := t.doBy(t.two, http.MethodPost, t.service.Read.Procedure, t.service.Read.at(t.place(), ""), "Content-Type", "application/json")
		t.needf(a.status == http.StatusOK, "a read over HTTP/2 was answered %s", a)
	}},
	{Name: "http2-stream", Section: "", Says: "over HTTP/1.1 and HTTP/2 (h2c without TLS)", server: func(t *trial) {
		t.listen(t.two, http.MethodGet, "/events?topic=conformance", "").until("ready")
	}},
	{Name: "grpc-stamp", Section: Calls, Says: "In gRPC these are metadata", server: func(t *trial) {
		a := t.grpc(t.two, t.service.Read, grpcContent)
		t.needf(a.status == http.StatusOK && a.trailer.Get("Grpc-Status") == "0", "a read over gRPC was answered with status %q, %s", a.trailer.Get("Grpc-Status"), a)
		t.needf(shape.MatchString(a.stamp()), "a read over gRPC is stamped %q", a.stamp())
	}},
	{Name: "grpc-error-stamp", Section: Calls, Says: "(on errors: trailers)", server: func(t *trial) {
		a := t.grpc(t.two, t.service.Missing, grpcContent)
		// An answer of nothing but trailers has them where headers are.
		failed := a.trailer.Get("Grpc-Status") + a.header.Get("Grpc-Status")
		t.needf(failed == "5", "what isn't there was answered over gRPC with status %q", failed)
		stamp := a.trailer.Get("Freshet-Revision") + a.stamp()
		t.needf(shape.MatchString(stamp), "not_found over gRPC is stamped %q", stamp)
	}},
	{Name: "grpc-at-least", Section: Calls, Says: "in gRPC in `grpc-status-details-bin`", server: func(t *trial) {
		a := t.grpc(t.two, t.service.Read, grpcContent, atLeast, "nonsense")
		failed := a.trailer.Get("Grpc-Status") + a.header.Get("Grpc-Status")
		t.needf(failed == "3", "at-least nonsense was answered over gRPC with status %q", failed)
		details := a.trailer.Get("Grpc-Status-Details-Bin") + a.header.Get("Grpc-Status-Details-Bin")
		t.needf(grpcReason(details) == unknownReason, "the details of the error have the reason %q", grpcReason(details))
	}},
	{Name: "grpc-web-stamp", Section: Calls, Says: "Services speak Connect, gRPC, gRPC-Web and plain JSON", server: func(t *trial) {
		a := t.grpc(t.one, t.service.Read, grpcWebContent)
		t.needf(webTrailers(a).Get("Grpc-Status") == "0", "a read over gRPC-Web was answered %s", a)
		t.needf(shape.MatchString(a.stamp()), "a read over gRPC-Web is stamped %q", a.stamp())
	}},
	{Name: "grpc-web-error-stamp", Section: Calls, Says: "(on errors: trailers)", server: func(t *trial) {
		a := t.grpc(t.one, t.service.Missing, grpcWebContent)
		trailers := webTrailers(a)
		failed := trailers.Get("Grpc-Status") + a.header.Get("Grpc-Status")
		t.needf(failed == "5", "what isn't there was answered over gRPC-Web with status %q", failed)
		stamp := trailers.Get("Freshet-Revision") + a.stamp()
		t.needf(shape.MatchString(stamp), "not_found over gRPC-Web is stamped %q", stamp)
	}},
}

func (t *trial) grpc(by *http.Client, c Call, content string, header ...string) answer {
	return t.doBy(by, http.MethodPost, c.Procedure, envelope(c.at(t.place(), "")), append([]string{"Content-Type", content, "Te", "trailers"}, header...)...)
}

// webTrailers are those that gRPC-Web puts behind the message.
func webTrailers(a answer) http.Header {
	const isTrailers = 0x80
	trailers := http.Header{}
	flags, message, rest, ok := unpack([]byte(a.raw))
	for ; ok; flags, message, rest, ok = unpack(rest) {
		if flags&isTrailers == 0 {
			continue
		}
		for line := range strings.SplitSeq(string(message), "\r\n") {
			if name, value, ok := strings.Cut(line, ":"); ok {
				trailers.Add(textproto.CanonicalMIMEHeaderKey(name), strings.TrimSpace(value))
			}
		}
	}
	return trailers
}

// grpcReason is the reason of the ErrorInfo in a grpc-status-details-bin; empty: none of ours.
func grpcReason(details string) string {
	var s status.Status
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(details, "="))
	if err != nil || proto.Unmarshal(raw, &s) != nil {
		return ""
	}
	for _, detail := range s.GetDetails() {
		var info errdetails.ErrorInfo
		if detail.UnmarshalTo(&info) == nil && info.GetDomain() == errorDomain {
			return info.GetReason()
		}
	}
	return ""
}
