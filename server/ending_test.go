package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

// tokenOf is a token of these tests: who, by whom, until when (zero: for ever).
func tokenOf(subject, issuer string, expires time.Time) string {
	until := int64(0)
	if !expires.IsZero() {
		until = expires.UnixNano()
	}
	return fmt.Sprintf("%s~%s~%d", url.QueryEscape(subject), issuer, until)
}

// byToken is Config.Authenticate for tokenOf.
func byToken(r *http.Request) (server.Principal, error) {
	refused := connect.NewError(connect.CodeUnauthenticated, errors.New("the token is not valid, or not any more"))
	parts := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), "~")
	if len(parts) != 3 {
		return server.Principal{}, refused
	}
	subject, err := url.QueryUnescape(parts[0])
	until, also := strconv.ParseInt(parts[2], 10, 64)
	if err := errors.Join(err, also); err != nil {
		return server.Principal{}, refused
	}
	who := server.Principal{Subject: subject, Issuer: parts[1], Claims: map[string]any{"sub": subject, "iss": parts[1]}}
	if until != 0 {
		if who.Expires = time.Unix(0, until); !time.Now().Before(who.Expires) {
			return server.Principal{}, refused
		}
	}
	return who, nil
}

// banned is an Authorize that looks into a table, as a team's would: who is in there
// has no grant. It counts its questions.
type banned struct {
	pool *pgxpool.Pool

	mu    sync.Mutex
	asked map[string]int // by issuer and subject
}

func newBanned(t *testing.T, database string) *banned {
	t.Helper()
	testkit.Exec(t, database, `create table banned (iss text, sub text, primary key (iss, sub))`)
	pool, err := pgxpool.New(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return &banned{pool: pool, asked: map[string]int{}}
}

func (b *banned) authorize(ctx context.Context, who server.Principal, _ server.Action, _ []string) error {
	b.mu.Lock()
	b.asked[who.Issuer+" "+who.Subject]++
	b.mu.Unlock()
	var gone bool
	if err := b.pool.QueryRow(ctx, `select exists (select from banned where iss = $1 and sub = $2)`, who.Issuer, who.Subject).Scan(&gone); err != nil {
		return err
	}
	if gone {
		return server.ErrDenied
	}
	return nil
}

func (b *banned) count(who string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[who]
}

// ban takes somebody's grant away, and says so unless it is to be found out.
func (b *banned) ban(t *testing.T, issuer, subject string, say bool) {
	t.Helper()
	_, err := b.pool.Exec(t.Context(), `with gone as (insert into banned values ($1, $2) returning 1)
		select pg_logical_emit_message(true, 'freshet', $3) from gone where $4`, issuer, subject, server.RevokedTopic(subject), say)
	require.NoError(t, err)
}

// ways are those in which a stream is followed.
var ways = []string{"SSE over HTTP/1.1", "SSE over HTTP/1.1, on its handler", "SSE over h2c", "Watch over HTTP/1.1", "Watch over h2c, gRPC"}

// followed opens a stream. It tells the names of events, and why it ended.
func followed(t *testing.T, b *bare, h2 *http.Client, way, token, topic string) <-chan string {
	t.Helper()
	events := make(chan string, 100)
	client := b.http
	if strings.Contains(way, "h2c") {
		client = h2
	}
	if strings.HasPrefix(way, "SSE") {
		req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, b.url+"/events?topic="+url.QueryEscape(topic), nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		if strings.Contains(way, "handler") {
			req.Header.Set("Test-Keep", "1")
		}
		resp, err := client.Do(req)
		require.NoError(t, err)
		if resp.StatusCode != http.StatusOK {
			events <- fmt.Sprint("refused ", resp.StatusCode)
			close(events)
			_ = resp.Body.Close()
			return events
		}
		go readEvents(resp, events)
		return events
	}
	var options []connect.ClientOption
	if strings.Contains(way, "gRPC") {
		options = append(options, connect.WithGRPC())
	}
	req := connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{topic}})
	req.Header().Set("Authorization", "Bearer "+token)
	stream, err := freshetv1connect.NewInvalidationServiceClient(client, b.url, options...).Watch(b.ctx, req)
	require.NoError(t, err)
	go func() {
		defer close(events)
		defer stream.Close()
		for stream.Receive() {
			switch {
			case stream.Msg().GetReady() != nil:
				events <- "ready"
			case stream.Msg().GetInvalidate() != nil:
				events <- "invalidate"
			}
		}
		switch connect.CodeOf(stream.Err()) {
		case connect.CodeUnauthenticated:
			events <- "expired"
		case connect.CodePermissionDenied:
			events <- "denied"
		default:
			events <- fmt.Sprint(stream.Err())
		}
	}()
	return events
}

func readEvents(resp *http.Response, events chan<- string) {
	defer close(events)
	defer resp.Body.Close()
	scanner := bufio.NewScanner(resp.Body)
	name := ""
	for scanner.Scan() {
		event, isEvent := strings.CutPrefix(scanner.Text(), "event: ")
		data, isData := strings.CutPrefix(scanner.Text(), "data: ")
		switch {
		case isEvent && event == "frontier":
		case isEvent:
			if name = event; name != "end" {
				events <- name
			}
		case isData && name == "end":
			events <- strings.Trim(strings.TrimPrefix(data, `{"reason":`), `"}`)
		}
	}
	if err := scanner.Err(); err != nil {
		events <- "not in good order: " + err.Error()
	}
}

// startBanned is a node that knows callers by tokenOf, and whom it has banned.
func startBanned(t *testing.T, reauthorize time.Duration) (*bare, *banned, *http.Client) {
	t.Helper()
	database := testkit.Migrated(t)
	who := newBanned(t, database)
	b := embedBehind(t, server.Config{
		DatabaseURL: database, Authenticate: byToken, Authorize: who.authorize, Reauthorize: reauthorize,
	}, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Test-Keep") != "" {
				w = struct {
					http.ResponseWriter
					unwrap
				}{w, unwrap{w}}
			}
			intercept.RequestID(h).ServeHTTP(w, r)
		})
	}).live(t)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return b, who, &http.Client{Transport: transport}
}

// unwrap is a middleware's that changes something, so that the stream stays with its
// handler.
type unwrap struct{ w http.ResponseWriter }

func (u unwrap) Unwrap() http.ResponseWriter { return u.w }

// F18: a token expires, or a grant is withdrawn, mid-stream: closed within a second,
// over each transport, with the reason; nothing is told from then on, who reconnects
// with the same is refused, and others stay. A grant is withdrawn in three ways: by
// Reauthorize, by its being asked for now and then, and by the topic of the subject.
func TestStreams_F18_tokenExpiresOrGrantIsWithdrawn(t *testing.T) {
	const topic = "conversations/one/messages"
	const every = 500 * time.Millisecond
	b, who, h2 := startBanned(t, every)
	write := func(t *testing.T) {
		_, err := who.pool.Exec(b.ctx, `insert into messages (conversation, author, body) values ('one', 'sql', 'hi')`)
		require.NoError(t, err)
	}
	// ends returns how a stream does, whatever it tells until then.
	ends := func(t *testing.T, events <-chan string) string {
		for {
			if event := receive(t, b.ctx, events); event != "invalidate" {
				return event
			}
		}
	}
	t.Run("each", func(t *testing.T) {
		for i, way := range ways {
			t.Run(way, func(t *testing.T) {
				t.Parallel()
				sub := func(name string) string { return fmt.Sprintf("%s/%d", name, i) }
				stays := followed(t, b, h2, way, tokenOf(sub("bob"), "x", time.Time{}), topic)
				require.Equal(t, "ready", receive(t, b.ctx, stays))

				expires := time.Now().Add(700 * time.Millisecond)
				short := tokenOf(sub("ada"), "x", expires)
				stream := followed(t, b, h2, way, short, topic)
				require.Equal(t, "ready", receive(t, b.ctx, stream))
				write(t)
				require.Equal(t, "invalidate", receive(t, b.ctx, stream))
				require.Equal(t, "expired", ends(t, stream))
				require.InDelta(t, 0.5, time.Since(expires).Seconds(), 0.5, "within a second, and not before")
				again := followed(t, b, h2, way, short, topic)
				require.Contains(t, []string{"refused 401", "expired"}, receive(t, b.ctx, again))

				for _, how := range []string{"Reauthorize", "in turn", "topic"} {
					name := sub("eve|" + how)
					token := tokenOf(name, "x", time.Now().Add(time.Hour))
					stream := followed(t, b, h2, way, token, topic)
					require.Equal(t, "ready", receive(t, b.ctx, stream))
					begin := time.Now()
					who.ban(t, "x", name, how == "topic")
					if how == "Reauthorize" {
						require.NoError(t, b.node.Reauthorize(b.ctx))
					}
					require.Equal(t, "denied", ends(t, stream))
					require.Less(t, time.Since(begin), time.Second)
					write(t)
					_, more := <-stream
					require.False(t, more, "nothing is told any more")
					require.Contains(t, []string{"refused 403", "denied"}, receive(t, b.ctx, followed(t, b, h2, way, token, topic)))
				}
				require.Equal(t, "invalidate", receive(t, b.ctx, stays))
				require.Equal(t, "invalidate", receive(t, b.ctx, stays), "it goes on")
			})
		}
	})
}

// A subject that is named on its topic is asked about at once, of whichever issuer, and
// nobody else is. Who follows such topics needs a grant, as for any other.
func TestStreams_revokedTopic(t *testing.T) {
	b, who, h2 := startBanned(t, server.None)
	const sub, topic = "auth0|ada/1 ä", "conversations/one/messages"
	open := map[string]<-chan string{}
	for _, caller := range []string{"x " + sub, "y " + sub, "x bob"} {
		issuer, subject, _ := strings.Cut(caller, " ")
		open[caller] = followed(t, b, h2, ways[0], tokenOf(subject, issuer, time.Time{}), topic)
		require.Equal(t, "ready", receive(t, b.ctx, open[caller]))
		require.Equal(t, 1, who.count(caller))
	}
	who.ban(t, "x", sub, true)
	require.Equal(t, "denied", receive(t, b.ctx, open["x "+sub]))
	require.Eventually(t, func() bool { return who.count("y "+sub) == 2 }, 5*time.Second, time.Millisecond)
	require.Equal(t, 1, who.count("x bob"))
	insert(t, b.ctx, testkit.Conn(t, b.database), "one")
	require.Equal(t, "invalidate", receive(t, b.ctx, open["y "+sub]))
	require.Equal(t, "invalidate", receive(t, b.ctx, open["x bob"]))

	// An outage of whatever Authorize asks ends nothing, and hides nothing.
	testkit.Exec(t, b.database, "alter table banned rename to elsewhere")
	testkit.Exec(t, b.database, "select pg_logical_emit_message(true, 'freshet', 'freshet/revoked/bob')")
	require.Eventually(t, func() bool { return who.count("x bob") >= 2 }, 5*time.Second, time.Millisecond)
	require.Empty(t, open["x bob"])
	testkit.Exec(t, b.database, "insert into elsewhere values ('x', 'bob')")
	testkit.Exec(t, b.database, "alter table elsewhere rename to banned")
	require.Equal(t, "denied", receive(t, b.ctx, open["x bob"]), "it was asked about again")
}

// What was told while capture had lost its place is not told later: everybody is asked
// about once it has another one.
func TestStreams_revokedInAGap(t *testing.T) {
	b, who, h2 := startBanned(t, server.None)
	stream := followed(t, b, h2, ways[0], tokenOf("ada", "x", time.Time{}), "conversations/one/messages")
	require.Equal(t, "ready", receive(t, b.ctx, stream))
	who.ban(t, "x", "ada", false) // nobody says so
	// The node's start is a gap, too, which may be asked about after the stream is ready.
	require.LessOrEqual(t, who.count("x ada"), 2)
	conn := testkit.Conn(t, b.database)
	require.Eventually(t, func() bool {
		// Between the two the walsender may still be there, or another one.
		_, err := conn.Exec(b.ctx, `select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database() and active`)
		require.NoError(t, err)
		_, err = conn.Exec(b.ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database() and not temporary`)
		if err != nil {
			return false
		}
		_, err = conn.Exec(b.ctx, `select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database() and temporary`)
		require.NoError(t, err)
		return true
	}, 20*time.Second, time.Millisecond)
	for event := range stream {
		if event == "denied" {
			return
		}
	}
	require.Fail(t, "it ended otherwise")
}

// Without Authorize everybody may everything, but follow Freshet's own topics.
func TestStreams_reservedTopics(t *testing.T) {
	b := embed(t, server.Config{DatabaseURL: testkit.Migrated(t)}).live(t)
	for _, way := range []string{ways[0], ways[3]} {
		require.Contains(t, []string{"refused 403", "denied"}, receive(t, b.ctx, followed(t, b, b.http, way, "", server.RevokedTopic("ada"))))
	}
}
