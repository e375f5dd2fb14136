package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/freshet-dev/freshet/server"
)

const (
	// hotReads is how many reads a topic needs before its needless ones say something.
	hotReads = 10
	// hotPatience is how long an answer may take beyond the measurement.
	hotPatience = 15 * time.Second
	// hotAnswerBytes bounds the answer: a thousand topics of 512 bytes, and their tables.
	hotAnswerBytes = 16 << 20
)

// measureHeat has the node at --url measure which topics cost most, and prints them
// with what to do.
func (c *doctorCmd) measureHeat(ctx context.Context, to streams) error {
	base, token, err := c.target()
	if err != nil {
		return err
	}
	if c.For <= 0 || c.Top <= 0 {
		return errors.New("--for and --top: want more than 0")
	}
	ctx, cancel := context.WithTimeout(ctx, c.For+hotPatience)
	defer cancel()
	query := url.Values{"for": {c.For.String()}, "top": {strconv.Itoa(c.Top)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/hot?"+query.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	fmt.Fprintf(to.err, "measuring for %v\n", c.For)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the admin port: %w; --url is to be %s", err, whereHot)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, hotAnswerBytes))
	if err != nil {
		return err
	}
	var found server.HotTopics
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/hot is answered %s: %s%s", resp.Status, strings.TrimSpace(string(body[:min(len(body), 300)])), askedHot[resp.StatusCode])
	}
	if err := json.Unmarshal(body, &found); err != nil {
		return fmt.Errorf("what comes is no measurement: %w; --url is to be %s", err, whereHot)
	}
	return printHeat(to.out, found)
}

// whereHot is who answers /hot.
const whereHot = "the address of serve's --admin-addr, or where a service of your own mounts /hot (docs/library.md, What doctor asks)"

// askedHot says what to do about a refusal.
var askedHot = map[int]string{
	http.StatusUnauthorized: " (give a token by --token-file)",
	http.StatusForbidden:    " (the token's caller needs admin: true in serve's --grants)",
	http.StatusNotFound:     " (--url is to be " + whereHot + ")",
}

// printHeat prints a table, and below it what to do about which topic.
func printHeat(w io.Writer, found server.HotTopics) error {
	if len(found.Topics) == 0 {
		fmt.Fprintf(w, "In %v no topic changed, and none was read again.\n", found.Window)
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "followers\tchanges\tnotices\trefetches\tneedless\tqueries\t  topic\n")
	for _, t := range found.Topics {
		fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%s\t%d\t  %s\n",
			t.Followers, t.Changes, t.Notices, t.Reads, share(t.NeedlessReads, t.Reads), t.Queries, oneLine.Replace(t.Topic))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	quiet := true
	for _, t := range found.Topics {
		if advice := adviceOn(t, found.Window); advice != "" {
			quiet = false
			fmt.Fprintf(w, "%s: %s\n", oneLine.Replace(t.Topic), advice)
			for _, s := range t.Sources {
				fmt.Fprintf(w, "    told by rows of %s: %s\n", s.Table, s.Template)
			}
		}
	}
	if quiet {
		fmt.Fprintln(w, "Nothing of it is conspicuous.")
	}
	if found.Replaced > 0 {
		fmt.Fprintf(w, "More topics were changed and read than are counted, so counts are low: serve with a higher --max-hot-topics (%d took the place of others).\n", found.Replaced)
	}
	return nil
}

// share is a part of all, with its percentage.
func share(part, all int) string {
	if all == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%d %%)", part, 100*part/all)
}

// adviceOn says what to do about a topic; empty: nothing.
func adviceOn(t server.HotTopic, window time.Duration) string {
	switch {
	case t.Reads >= hotReads && 2*t.NeedlessReads >= t.Reads:
		return fmt.Sprintf("%d of %d refetches found nothing new, so it is wider than what is read by it. "+
			"Have those reads depend on a narrower topic: a template with a column of the rows that they show, or response_topics.", t.NeedlessReads, t.Reads)
	case t.Queries > 0 && float64(t.Queries) > hotQueriesPerSecond*window.Seconds():
		return fmt.Sprintf("%.0f queries per second, nearly all with news. If people can do with less, raise --throttle or --read-interval; "+
			"if its reads differ by caller, `shared` makes one query of them.", float64(t.Queries)/window.Seconds())
	case t.Followers > 0 && t.Notices >= hotReads && t.Reads == 0:
		return fmt.Sprintf("%d notices, and no read that is kept followed: its followers look elsewhere, or their reads are uncached. Streams should follow what is shown.", t.Notices)
	}
	return ""
}

// hotQueriesPerSecond is from where on the queries of one topic are worth a word: one
// read that is paced as by default makes ten.
const hotQueriesPerSecond = 20
