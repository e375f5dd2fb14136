package stream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

func TestEvents_refusals(t *testing.T) {
	denied := func(_ context.Context, topics []string) error {
		switch topics[0] {
		case "who":
			return connect.NewError(connect.CodeUnauthenticated, errors.New("no token"))
		case "secret":
			return connect.NewError(connect.CodePermissionDenied, errors.New("no grant on secret"))
		case "broken":
			return errors.New("pq: connection refused to 10.0.0.1")
		}
		return nil
	}
	s := newSite(t, h1, Config{Authorize: denied, MaxTopics: 3, MaxBodyBytes: 1000})
	rev := at(100).String()
	long := strings.Repeat("x", freshet.MaxTopicBytes+1)
	for name, test := range map[string]struct {
		method, target, body, kind string
		status                     int
		code, message              string
	}{
		"no topic":              {target: "", status: 400, code: "invalid_argument", message: "no topic"},
		"empty topic":           {target: "?topic=", status: 400, code: "invalid_argument", message: "it is empty"},
		"line break":            {target: "?topic=a%0Aid:%201", status: 400, code: "invalid_argument", message: "control character"},
		"NUL":                   {target: "?topic=a%00", status: 400, code: "invalid_argument", message: "control character"},
		"not UTF-8":             {target: "?topic=%ff", status: 400, code: "invalid_argument", message: "UTF-8"},
		"long topic":            {target: "?topic=" + long, status: 400, code: "invalid_argument", message: "513 bytes"},
		"malformed since":       {target: "?topic=a&since=12", status: 400, code: "invalid_argument", message: "since"},
		"since in upper case":   {target: "?topic=a&since=" + strings.ToUpper(rev[:8]) + "-00000000DEADBEEF", status: 400, code: "invalid_argument", message: "since"},
		"since twice":           {target: "?topic=a&since=" + rev + "&since=" + rev, status: 400, code: "invalid_argument", message: `"since" is given 2 times`},
		"a typo":                {target: "?topics=a&topic=a", status: 400, code: "invalid_argument", message: `unknown query parameter "topics"`},
		"malformed query":       {target: "?topic=%zz", status: 400, code: "invalid_argument", message: "malformed query"},
		"semicolon":             {target: "?topic=a;since=1", status: 400, code: "invalid_argument", message: "malformed query"},
		"throttle words":        {target: "?topic=a&throttle=fast", status: 400, code: "invalid_argument", message: "throttle"},
		"throttle negative":     {target: "?topic=a&throttle=-1", status: 400, code: "invalid_argument", message: "throttle"},
		"throttle above":        {target: "?topic=a&throttle=10001", status: 400, code: "invalid_argument", message: "throttle"},
		"throttle empty":        {target: "?topic=a&throttle=", status: 400, code: "invalid_argument", message: "throttle"},
		"too many":              {target: topicsQuery("a", "b", "c", "d"), status: 413, code: "resource_exhausted", message: "at most 3"},
		"very many":             {target: topicsQuery(strings.Split(strings.Repeat("a,", 40)+"a", ",")...), status: 413, code: "resource_exhausted", message: "at most 3"},
		"unauthenticated":       {target: "?topic=who", status: 401, code: "unauthenticated", message: "no token"},
		"denied":                {target: "?topic=secret", status: 403, code: "permission_denied", message: "no grant"},
		"internal":              {target: "?topic=broken", status: 500, code: "internal", message: "internal error"},
		"method":                {method: "DELETE", target: "?topic=a", status: 405, code: "invalid_argument", message: "GET or POST"},
		"put":                   {method: "PUT", target: "?topic=a", status: 405, code: "invalid_argument", message: "GET or POST"},
		"post form":             {method: "POST", kind: "application/x-www-form-urlencoded", body: `{"topics":["a"]}`, status: 415, code: "invalid_argument", message: "application/json"},
		"post no type":          {method: "POST", kind: "-", body: `{"topics":["a"]}`, status: 415, code: "invalid_argument", message: "application/json"},
		"post nothing":          {method: "POST", body: ``, status: 400, code: "invalid_argument", message: "not as expected"},
		"post null":             {method: "POST", body: `null`, status: 400, code: "invalid_argument", message: "no topic"},
		"post list":             {method: "POST", body: `["a"]`, status: 400, code: "invalid_argument", message: "array"},
		"post not JSON":         {method: "POST", body: `{"topics":["a",]}`, status: 400, code: "invalid_argument", message: "not JSON at byte"},
		"post cut":              {method: "POST", body: `{"topics":["a"`, status: 400, code: "invalid_argument", message: "not as expected"},
		"post number":           {method: "POST", body: `{"topics":[1]}`, status: 400, code: "invalid_argument", message: "can't be a JSON number"},
		"post unknown field":    {method: "POST", body: `{"topic":["a"]}`, status: 400, code: "invalid_argument", message: "not as expected"},
		"post trailing":         {method: "POST", body: `{"topics":["a"]} {}`, status: 400, code: "invalid_argument", message: "goes on"},
		"post not UTF-8":        {method: "POST", body: "{\"topics\":[\"\xff\"]}", status: 400, code: "invalid_argument", message: "UTF-8"},
		"post control":          {method: "POST", body: `{"topics":["a\u000ab"]}`, status: 400, code: "invalid_argument", message: "control character"},
		"post malformed since":  {method: "POST", body: `{"topics":["a"],"since":"1"}`, status: 400, code: "invalid_argument", message: "since"},
		"post malformed by":     {method: "POST", body: `{"topics":["a"],"since_by_topic":{"a":"1"}}`, status: 400, code: "invalid_argument", message: "since_by_topic"},
		"post foreign by":       {method: "POST", body: `{"topics":["a"],"since_by_topic":{"b":"` + rev + `"}}`, status: 400, code: "invalid_argument", message: "not among"},
		"post topic in query":   {method: "POST", target: "?topic=a", body: `{"topics":["a"]}`, status: 400, code: "invalid_argument", message: "unknown query parameter"},
		"post throttle":         {method: "POST", target: "?throttle=1e3", body: `{"topics":["a"]}`, status: 400, code: "invalid_argument", message: "throttle"},
		"post too many":         {method: "POST", body: `{"topics":["a","b","c","d"]}`, status: 413, code: "resource_exhausted", message: "at most 3"},
		"post too large a body": {method: "POST", body: `{"topics":["` + strings.Repeat("x", 1000) + `"]}`, status: 413, code: "resource_exhausted", message: "1000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.method == "" {
				test.method = http.MethodGet
			}
			req, err := http.NewRequest(test.method, s.url+"/events"+test.target, strings.NewReader(test.body))
			require.NoError(t, err)
			switch test.kind {
			case "":
				req.Header.Set("Content-Type", "application/json; charset=utf-8")
			case "-":
			default:
				req.Header.Set("Content-Type", test.kind)
			}
			r := s.do(t, req)
			body, err := io.ReadAll(r.res.Body)
			require.NoError(t, err)
			require.Equal(t, test.status, r.res.StatusCode, "%s", body)
			require.Equal(t, "application/json", r.res.Header.Get("Content-Type"))
			require.Equal(t, "no-store", r.res.Header.Get("Cache-Control"))
			var answer map[string]string
			require.NoError(t, json.Unmarshal(body, &answer))
			require.Len(t, answer, 2)
			require.Equal(t, test.code, answer["code"])
			require.Contains(t, answer["message"], test.message)
			require.NotContains(t, answer["message"], "struct", "no Go type names")
			if test.status == http.StatusMethodNotAllowed {
				require.Equal(t, "GET, POST", r.res.Header.Get("Allow"))
			}
		})
	}
	require.Zero(t, s.hub.Stats().Subscriptions)

	r := s.get(t, topicsQuery("a", "b", "a", "c", "b"), nil)
	require.Equal(t, float64(3), r.expect("ready", at(100)).Topics, "distinct topics count")
	require.Equal(t, 3, s.hub.Stats().Subscribed)
}

// A refusal names all topics that can't be told, and no others: those a client could
// follow without them.
func TestEvents_refusalNamesTopics(t *testing.T) {
	s := newSite(t, h1, Config{CheckTopic: func(topic string) *connect.Error {
		if strings.HasPrefix(topic, "never/") {
			return connect.NewError(connect.CodeInvalidArgument, errors.New(topic+" is never told"))
		}
		return nil
	}})
	r := s.get(t, topicsQuery("a", "never/1", "b", "never/2"), nil)
	require.Equal(t, http.StatusBadRequest, r.res.StatusCode)
	var answer struct {
		Message string
		Topics  []string
	}
	require.NoError(t, json.NewDecoder(r.res.Body).Decode(&answer))
	require.Equal(t, "never/1 is never told", answer.Message)
	require.Equal(t, []string{"never/1", "never/2"}, answer.Topics)
}

func TestEvents_refusalsOfANodeThatCannot(t *testing.T) {
	var position freshet.Revision
	var positionErr error
	s := newSite(t, h1, Config{
		MaxConnections: 2,
		InsertPosition: func(context.Context) (freshet.Revision, error) { return position, positionErr },
	})
	refused := func(query string, status int) {
		t.Helper()
		r := s.get(t, query, nil)
		require.Equal(t, status, r.res.StatusCode)
		require.Equal(t, "1", r.res.Header.Get("Retry-After"))
	}
	future := "?topic=a&since=" + freshet.Revision{Epoch: 8, Position: 3}.String()
	positionErr = errors.New("down")
	refused(future, http.StatusServiceUnavailable)
	positionErr, position = nil, freshet.Revision{Epoch: 8, Position: 5}
	refused(future, http.StatusServiceUnavailable) // the primary has that epoch, the node has not

	one, two := s.get(t, "?topic=a", nil), s.get(t, "?topic=a", nil)
	one.expect("ready", at(100))
	two.expect("ready", at(100))
	refused("?topic=a", http.StatusTooManyRequests)
	one.close()
	require.Eventually(t, func() bool { return s.hub.Stats().Subscriptions == 1 }, 10*time.Second, time.Millisecond)
	s.get(t, "?topic=a", nil).expect("ready", at(100))

	two.close()
	require.Eventually(t, func() bool { return s.hub.Stats().Subscriptions == 1 }, 10*time.Second, time.Millisecond)
	s.hub.Begin(at(200))
	refused("?topic=a", http.StatusServiceUnavailable)
}

// F62: the memory of all subscriptions is bounded, and neither one caller nor one
// principal can take every stream.
func TestEvents_F62_loadsAreBounded(t *testing.T) {
	s := newSite(t, h1, Config{
		MaxTopicBytes: 4 * weigh([]string{"four"}), MaxPerCaller: 2, MaxPerPrincipal: 1, MaxConnections: 3,
		Caller: func(ctx context.Context) string { c, _ := ctx.Value(callerOfTest{}).(string); return c },
	})
	s.server.config.Principal = func(ctx context.Context) string { p, _ := ctx.Value(principalOfTest{}).(string); return p }
	start := func(caller string, topics ...string) (*session, *refusal) {
		return s.server.start(context.WithValue(t.Context(), callerOfTest{}, caller), &request{topics: topics})
	}
	one, refused := start("ada", "four")
	require.Nil(t, refused)
	_, refused = start("ada", "four", "more")
	require.Equal(t, "too_many_topic_bytes_of_caller", refused.reason, "half is for others")
	require.Equal(t, http.StatusTooManyRequests, refused.status)
	others, refused := start("bob", "four", "more")
	require.Nil(t, refused)
	_, refused = start("cleo", "four", "more")
	require.Equal(t, "too_many_topic_bytes", refused.reason)
	require.Equal(t, http.StatusTooManyRequests, refused.status)
	others.close()
	two, refused := start("ada", "four")
	require.Nil(t, refused)
	_, refused = start("ada", "a")
	require.Equal(t, "too_many_of_caller", refused.reason)
	two.close()
	three, refused := start("ada", "four")
	require.Nil(t, refused, "what was left can be taken")
	one.close()
	three.close()
	known := context.WithValue(t.Context(), principalOfTest{}, "eve")
	_, refused = s.server.start(known, &request{topics: []string{"four", "more", "much"}})
	require.Equal(t, "too_many_topic_bytes_of_principal", refused.reason)
	four, refused := s.server.start(known, &request{topics: []string{"four"}})
	require.Nil(t, refused)
	_, refused = s.server.start(known, &request{topics: []string{"a"}})
	require.Equal(t, "too_many_of_principal", refused.reason)
	require.Equal(t, http.StatusTooManyRequests, refused.status)
	four.close()
	require.Zero(t, s.server.callers.InUse())
	require.Zero(t, s.server.principals.InUse())
	require.Zero(t, s.server.callerTopics.InUse())
	require.Zero(t, s.server.principalTopics.InUse())
}

type (
	callerOfTest    struct{}
	principalOfTest struct{}
)

// F65: whoever comes back is served, with whatever a polyfill or a proxy has put
// into the query meanwhile: an EventSource that is refused never tries again.
func TestEvents_F65_whoComesBackIsNotRefused(t *testing.T) {
	s := newSite(t, h1, Config{})
	s.publish(110, "a")
	s.publish(120, "b")
	id, before := at(115).String(), at(100).String()
	for name, tt := range map[string]struct{ query, header, want string }{
		"a polyfill's parameter":            {query: "&lastEventId=" + id, want: "invalidate b"},
		"another's":                         {query: "&lastEventID=" + id, want: "invalidate b"},
		"its parameter replaces since":      {query: "&lastEventId=" + id + "&since=" + before, want: "invalidate b"},
		"the header counts above it":        {query: "&lastEventId=" + before, header: id, want: "invalidate b"},
		"garbage":                           {query: "&lastEventId=1234", want: "reset"},
		"twice":                             {query: "&lastEventId=" + id + "&lastEventId=" + id, want: "reset"},
		"empty":                             {query: "&lastEventId=", want: "ready"},
		"empty beside since":                {query: "&lastEventId=&since=" + id, want: "invalidate b"},
		"with a parameter that isn't ours":  {query: "&lastEventId=" + id + "&r=0.123", want: "invalidate b"},
		"the header, and one that isn't":    {query: "&_=5&utm_source=x", header: id, want: "invalidate b"},
		"the header, and a malformed since": {query: "&since=garbage", header: id, want: "invalidate b"},
		"the header, and a malformed query": {query: "&x=%zz", header: id, want: "invalidate b"},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			if tt.header != "" {
				header.Set("Last-Event-ID", tt.header)
			}
			r := s.get(t, topicsQuery("a", "b")+tt.query, header)
			require.Equal(t, http.StatusOK, r.res.StatusCode)
			kind, topic, _ := strings.Cut(tt.want, " ")
			e := r.next()
			require.Equal(t, kind, e.kind)
			if topic != "" {
				require.Equal(t, []string{topic}, decode(t, e).list)
			}
		})
	}
}
