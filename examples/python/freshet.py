"""A client of Freshet: queries whose answers are kept fresh.

Written from docs/protocol.md alone, with Python's standard library (3.9 or later). Numbers
in comments are those of "The client rule" there.
"""

import base64, contextlib, http.client, json, logging, random, re, threading, time, urllib.parse

REVISION = re.compile(r"[0-9a-f]{8}-[0-9a-f]{16}")
ANSWERS = {"not_found", "already_exists", "permission_denied", "failed_precondition", "aborted", "out_of_range"}
FOR_GOOD, MAX_LAG_MS = {400, 401, 403, 404, 405, 413, 415}, 5000


def revision(text):
    """A revision, or "" for whatever is none: it compares as lower than all."""
    return text if REVISION.fullmatch(text or "") else ""


def topics_of(templates, request):
    """The topics of a request ("Topics of a request"): each template's, for each value of a repeated field."""
    topics = []
    for template in templates:
        paths = [""]
        for literal, field in re.findall(r"([^{]*)(?:\{([^}]*)\})?", template):
            paths = [path + literal for path in paths]
            if not field:
                continue
            name, whole = re.fullmatch(r"(.*?)(=\*\*)?", field).groups()
            value = request
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            values = value if isinstance(value, list) else [value]
            paths = [path + insert(v, whole) for path in paths for v in values if v not in (None, "")]
        topics += paths
    return topics


def insert(value, whole):
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if whole:
        return "/".join("-" if part == "-" else insert(part, False) for part in text.split("/"))
    return "%2D" if text == "-" else urllib.parse.quote(text, safe="-._~")


class Query:
    def __init__(self, name, procedure, request, topics):
        self.name, self.procedure, self.request, self.topics = name, procedure, request, topics
        self.need = self.have = ""  # the highest notice; the stamp of what is held
        self.data = self.error = self.shown = None
        self.flying = self.strong = self.patient = self.doubted = False
        self.tries, self.timer = 0, None

    def held(self):
        return self.data is not None or self.error is not None

    def due(self):
        return not self.held() or self.strong or self.doubted or self.have < self.need


class Client:
    def __init__(self, url, show):
        """show(query, stale) is called, from any thread, when what a query shows has changed."""
        self.host, self.show = urllib.parse.urlsplit(url).netloc, show
        self.queries, self.lock = [], threading.RLock()  # guards all but the stream's own state
        self.epoch, self.last, self.live, self.lagging = "", "", False, False
        self.heartbeat, self.retry, self.tries = 15.0, 0.5, 0
        self.refused = set()  # topics that the server can't tell: what depends on them stays stale

    def follow(self, queries):
        """Once, with all queries: a subscription doesn't change."""
        self.queries = queries
        for q in queries:
            self.fetch(q)
        threading.Thread(target=self.run, daemon=True).start()

    # Reads.

    def fetch(self, q):
        with self.lock:
            if q.flying or not q.due():
                return  # its end decides, or has: a timer can't be cancelled any more once it runs
            if q.timer:
                q.timer.cancel()
            q.flying, q.timer, q.patient = True, None, False
            at_least, q.strong = "" if q.strong else q.need or (self.last if self.live and not q.held() else ""), False  # 3
        threading.Thread(target=self.fly, args=(q, at_least), daemon=True).start()

    def fly(self, q, at_least):
        headers = {"Freshet-At-Least": at_least} if at_least else {}
        try:
            status, header, body = self.post(q.procedure, q.request, headers)
            stamps = header.get_all("Freshet-Revision") or []
            stamp, code = revision(stamps[0] if len(stamps) == 1 else ""), "" if status == 200 else body["code"]
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
            stamp, code, body = "", "unavailable", {}
        with self.lock:
            q.flying = False
            if not code or (code in ANSWERS and stamp):
                self.landed(q, stamp, at_least, body, code or None)
            else:
                self.failed(q, body)
            self.report()

    def landed(self, q, stamp, at_least, data, error):  # 2
        if stamp and stamp[:8] < self.epoch:
            return self.again(q)
        if stamp[:8] > self.epoch:
            self.history(stamp, but=q)  # 6
        if not stamp or not q.have or stamp >= q.have or not at_least:
            q.data, q.error, q.have = (None if error else data), error, max(q.have, stamp) if stamp else ""
            q.doubted &= q.have != stamp
        self.again(q)

    def failed(self, q, body):
        wait = None
        for detail in body.get("details", []):
            raw = base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
            if detail["type"] == "google.rpc.RetryInfo":
                wait = retry_delay(raw)
            elif detail["type"] == "google.rpc.ErrorInfo" and b"freshet.dev" in raw:
                if b"AT_LEAST_UNKNOWN" in raw or b"EPOCH_CHANGED" in raw:  # forget it, ask strongly
                    q.need, q.strong, q.have, q.doubted = "", True, "" if b"UNKNOWN" in raw else q.have, True
                elif b"TOPIC_SPELLING" in raw:  # a mistake: the same request will be refused again
                    q.error, self.queries = body["code"], [other for other in self.queries if other is not q]
                    return self.show(q, True)
        self.again(q, wait, failed=True)

    def again(self, q, wait=None, failed=False):
        """Fetch again while something is due: at once the first time, then with back-off."""
        q.tries, q.patient = q.tries + 1 if q.due() else 0, wait is not None
        if wait is None:
            wait = 0 if q.strong or (q.tries == 1 and not failed) else min(0.25 * 2 ** (q.tries - 1), 30) * random.uniform(1, 1.5)
        if q.due():
            self.later(q, wait)

    def later(self, q, wait):
        if q.timer:
            q.timer.cancel()
        q.timer = after(wait, self.fetch, q)

    def write(self, procedure, request, touches=()):
        """A mutation; touches are names of queries that it is known to touch."""
        status, header, body = self.post(procedure, request, {})
        stamp, topics = revision(header["Freshet-Revision"]), header["Freshet-Topics"]
        if status == 200 and stamp:  # 5
            changed = {urllib.parse.unquote(part) for part in topics.split(",")} if topics else set()
            with self.lock:
                self.mark(stamp, [q for q in self.queries if changed & set(q.topics) or not topics and q.name in touches])
                self.report()
        return status, body

    def post(self, path, request, headers):
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=32)) as connection:
            connection.request("POST", path, json.dumps(request), {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, response.headers, json.loads(response.read())

    # What the stream says.

    def mark(self, rev, queries, spread=0.0):  # 1
        if rev[:8] > self.epoch:
            self.history(rev)
        if rev[:8] < self.epoch:
            return
        for q in queries:
            q.need = max(q.need, rev)
            if q.due() and not q.flying and not q.timer:
                self.later(q, random.uniform(0, spread))

    def history(self, rev, but=None):  # 6
        """Another history begins: all is due, but of the query whose answer says so."""
        first, self.epoch, self.last = not self.epoch, rev[:8], ""
        for q in () if first else self.queries:
            kept = q.have if q.have[:8] == self.epoch else ""  # an answer was here before the stream
            q.need, q.have, q.doubted, q.strong = max(rev, kept), kept, bool(kept), False
            if q is not but and not q.flying:
                self.later(q, random.uniform(0, 1))

    def event(self, name, data, id, subscribed):
        data = json.loads(data)
        rev = revision(data.get("revision"))
        with self.lock:
            if name == "invalidate":
                self.mark(rev, [q for q in self.queries if set(q.topics) & set(data["topics"])], data.get("spread_ms", 0) / 1000)
            elif name == "reset":
                self.history(rev)
            elif name == "ready":
                self.live, self.lagging, self.tries = True, False, 0
                self.heartbeat = data["heartbeat_ms"] / 1000
                self.mark(rev, [q for q in self.queries if not all(subscribed.get(topic) for topic in q.topics)])  # 4
            elif name == "frontier":
                lagged, self.lagging = self.lagging, data["lag_ms"] > MAX_LAG_MS
                if self.lagging and not lagged:
                    after(random.uniform(10, 15), self.poll)
                for q in self.queries:  # 2: it ends a wait of our own making
                    if q.timer and not q.patient and q.due():
                        self.later(q, 0)
            if revision(id) and id[:8] == self.epoch:
                self.last = max(self.last, id)
                for q in self.queries:  # 4
                    if q.have and not q.due() and all(topic in subscribed and (self.live or subscribed[topic]) for topic in q.topics):
                        q.have = max(q.have, id)
            self.report()

    def poll(self):  # 7
        """While the node lags, read strongly now and then."""
        with self.lock:
            if self.lagging and self.live:
                for q in self.queries:
                    q.strong = True
                    self.fetch(q)
                after(random.uniform(10, 15), self.poll)

    def report(self):
        for q in self.queries:
            stale = not self.live or self.lagging or q.due() or not self.refused.isdisjoint(q.topics)
            if q.held() and q.shown != (q.data, q.error, stale):
                q.shown = (q.data, q.error, stale)
                self.show(q, stale)

    # The stream itself.

    def run(self):
        while (least := self.attempt()) is not None:
            time.sleep(max(least, min(self.retry * 2 ** self.tries, 30) * random.uniform(1, 1.5)))
            self.tries += 1

    def attempt(self):
        """One connection; returns the least wait for the next, None if that would be refused again."""
        with self.lock:
            pairs = ((topic, q.have) for q in self.queries for topic in q.topics if topic not in self.refused)
            subscribed = dict(sorted(pairs, reverse=True))  # topic to since: the lowest have, which comes last
            body = {"topics": list(subscribed), "since_by_topic": {topic: since for topic, since in subscribed.items() if since}}
        connection = http.client.HTTPConnection(self.host, timeout=2.5 * self.heartbeat)
        try:
            connection.request("POST", "/events", json.dumps(body), {"Content-Type": "application/json"})
            socket = connection.sock
            response = connection.getresponse()
            if response.status != 200:
                again = response.status not in FOR_GOOD or self.leave_out(response, subscribed)
                return float(response.headers.get("Retry-After") or 0) if again else None
            for name, data, id in self.frames(response):
                if data and name in ("invalidate", "ready", "reset", "frontier"):
                    self.event(name, data, id, subscribed)
                    socket.settimeout(2.5 * self.heartbeat)  # 7
        except (OSError, ValueError, http.client.HTTPException):
            pass  # it is broken, silent or says nonsense: come again
        finally:
            connection.close()
            with self.lock:
                self.live = False
                self.report()
        return 0

    def leave_out(self, response, subscribed):
        """Leaves out the topics that a refusal names; whether that leaves others to follow."""
        try:
            named = set(json.loads(response.read())["topics"]) & set(subscribed)
        except (ValueError, LookupError, TypeError):
            return False  # it is about all of them
        self.refused = self.refused | named
        if named:
            logging.warning("freshet: no row can have these topics, so they aren't followed: %s", sorted(named))
        return 0 < len(named) < len(subscribed)

    def frames(self, response):
        """The frames of an event stream (WHATWG HTML, 9.2.6): one that is cut is none."""
        line, after_cr, name, data, id = bytearray(), False, "", [], ""
        while chunk := response.read1(4096):
            for byte in chunk:
                skip, after_cr = after_cr and byte == 10, byte == 13  # CRLF is one end
                if byte not in (10, 13):
                    line.append(byte)
                if skip or byte not in (10, 13):
                    continue
                field, _, value = line.decode("utf-8-sig").partition(":")
                line, value = bytearray(), value[1:] if value.startswith(" ") else value
                data += [value] if field == "data" else []
                name, id = value if field == "event" else name, value if field == "id" else id
                if field == "retry" and value.isdigit():
                    self.retry = int(value) / 1000
                elif field == "" and not value:
                    yield name, "\n".join(data), id
                    name, data, id = "", [], ""


def after(wait, do, *args):
    timer = threading.Timer(wait, do, args)
    timer.daemon = True
    timer.start()
    return timer


def retry_delay(raw):
    """Seconds of a google.rpc.RetryInfo: field 1 is a Duration, of seconds (1) and nanos (2)."""
    varints = re.findall(rb"[\x80-\xff]*[\x00-\x7f]", raw[2:])
    numbers = [sum((byte & 0x7F) << 7 * i for i, byte in enumerate(varint)) for varint in varints]
    fields = dict(zip(numbers[::2], numbers[1::2]))  # by tag, which is the field's number times 8
    return fields.get(1 << 3, 0) + fields.get(2 << 3, 0) / 1e9
