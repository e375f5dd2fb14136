package auth

import (
	"net/http"
	"net/url"
	"strings"
)

// credential returns the token that came with r, and whether by cookie. None at
// all is no error; one that can't be read is, so that nobody is taken for somebody
// who sent none.
func credential(r *http.Request, cookie string) (token string, byCookie bool, _ error) {
	if strings.Contains(r.URL.RawQuery, "access_token") || strings.Contains(r.URL.RawQuery, "%") {
		// RFC 6750 section 2.3, which RFC 9700 takes back.
		if query, _ := url.ParseQuery(r.URL.RawQuery); query.Has("access_token") {
			return "", false, errQuery
		}
	}
	headers := r.Header["Authorization"]
	found, err := cookies(r.Header["Cookie"], cookie)
	switch {
	case err != nil:
		return "", false, err
	case len(headers)+len(found) > 1:
		return "", false, errTwo
	case len(found) == 1:
		return found[0], true, nil
	case len(headers) == 0:
		return "", false, nil
	}
	token, err = bearer(headers[0])
	return token, false, err
}

// bearer reads an Authorization header: RFC 6750 section 2.1, RFC 9110 section 11.4.
func bearer(header string) (string, error) {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", errScheme
	}
	token = strings.Trim(token, " ")
	if token == "" || strings.ContainsAny(token, " ,\t") {
		return "", errHeader
	}
	return token, nil
}

// cookies returns the values of the cookies called name. net/http would leave out
// those whose value is malformed, and their senders would be anonymous.
func cookies(headers []string, name string) (found []string, _ error) {
	if name == "" {
		return nil, nil
	}
	for _, header := range headers {
		for pair := range strings.SplitSeq(header, ";") {
			key, value, _ := strings.Cut(pair, "=")
			if strings.Trim(key, " \t") != name {
				continue
			}
			value = strings.Trim(value, " \t")
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			if value == "" {
				return nil, errCookie
			}
			found = append(found, value)
		}
	}
	return found, nil
}
