//! What the operator allows: entries such as `https://data.example.org/sets/`,
//! `https://*.example.org/` and `s3://bucket/prefix/`, and the URIs that are held against them.

use std::fmt;

use object_store::path::Path;
use reqwest::Url;

/// Pieces of a percent-encoded path that a server may take for separators or dots, which would lead
/// out of an allowed folder.
const HIDDEN: [&str; 7] = ["%2e", "%2f", "%5c", "%00", "%252e", "%252f", "%255c"];

/// A URI that was read and is well formed. Nothing is said yet about whether it is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Uri {
    /// `https://…` or `http://…`
    Web(Url),
    /// `s3://bucket/key`
    Object { bucket: String, key: Path },
}

impl Uri {
    /// Reads a URI.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("holds spaces or control characters; encode them as in %20".to_owned());
        }
        match text.split_once("://") {
            Some(("s3", rest)) => object(rest),
            Some((scheme, _))
                if matches!(scheme.to_ascii_lowercase().as_str(), "https" | "http") =>
            {
                web(text).map(Self::Web)
            }
            _ => Err("is neither https://… nor s3://bucket/key".to_owned()),
        }
    }
}

/// Without what may be secret: user, query and fragment.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => f.write_str(&shown(url)),
            Self::Object { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

/// A URL without what may be secret.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// A text that may be no URI, without what may be secret.
pub(super) fn redacted(text: &str) -> String {
    let bare = text.split(['?', '#']).next().unwrap_or_default();
    let bare = match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => bare.rsplit('@').next().unwrap_or_default().to_owned(),
    };
    bare.chars().take(200).collect()
}

/// Reads a URL, as it is given or as a server redirects to it.
pub(super) fn web(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    checked(url)
}

/// Refuses a URL that could be taken for another one.
pub(super) fn checked(mut url: Url) -> Result<Url, String> {
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err("is neither https://… nor s3://bucket/key".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; name credentials instead".to_owned());
    }
    let path = url.path().to_ascii_lowercase();
    if let Some(hidden) = HIDDEN.iter().find(|hidden| path.contains(*hidden)) {
        return Err(format!(
            "has {hidden} in its path, which isn't allowed there"
        ));
    }
    url.set_fragment(None);
    Ok(url)
}

fn object(rest: &str) -> Result<Uri, String> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    check_bucket(bucket)?;
    if key.is_empty() || key.ends_with('/') {
        return Err(
            "names no object: a prefix isn't fetched; name one object, such as a tar of pictures"
                .to_owned(),
        );
    }
    let key = Path::parse(key).map_err(|_| "has a key with empty, `.` or `..` parts".to_owned())?;
    let bucket = bucket.to_owned();
    Ok(Uri::Object { bucket, key })
}

fn check_bucket(bucket: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if (3..=63).contains(&bucket.len()) && bucket.chars().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "{bucket:?} is not a bucket's name: 3 to 63 of a-z, 0-9, '-' and '.'"
    ))
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    text: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Web {
        base: Url,
        /// Any host under that of `base`, but not that one.
        is_wild: bool,
    },
    Objects {
        bucket: String,
        prefix: String,
    },
}

impl Rule {
    /// Reads an entry.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let what = match text.split_once("://") {
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                check_bucket(bucket)?;
                What::Objects {
                    bucket: bucket.to_owned(),
                    prefix: prefix.to_owned(),
                }
            }
            _ => {
                let is_wild = text.contains("://*.");
                let base = web(&text.replacen("://*.", "://", 1))?;
                let host = base.host_str().unwrap_or_default();
                let is_name = base.domain().is_some();
                if host.contains('*') || (is_wild && !(is_name && host.contains('.'))) {
                    return Err(
                        "has a `*` elsewhere than for the first part of a host's name, as in https://*.example.org/"
                            .to_owned(),
                    );
                }
                if base.query().is_some() {
                    return Err("has a query, which isn't compared".to_owned());
                }
                What::Web { base, is_wild }
            }
        };
        let text = text.to_owned();
        Ok(Self { text, what })
    }

    /// Whether it is about buckets.
    pub(super) const fn is_of_objects(&self) -> bool {
        matches!(self.what, What::Objects { .. })
    }

    /// Whether it allows the URI.
    pub(super) fn allows(&self, uri: &Uri) -> bool {
        match (&self.what, uri) {
            (What::Web { base, is_wild }, Uri::Web(url)) => {
                let (host, wanted) = (url.host_str(), base.host_str());
                let (Some(host), Some(wanted)) = (host, wanted) else {
                    return false;
                };
                let is_host = match is_wild {
                    true => host
                        .strip_suffix(wanted)
                        .and_then(|before| before.strip_suffix('.'))
                        .is_some_and(|before| !before.is_empty()),
                    false => host == wanted,
                };
                is_host
                    && url.scheme() == base.scheme()
                    && url.port_or_known_default() == base.port_or_known_default()
                    && is_under(url.path(), base.path())
            }
            (What::Objects { bucket, prefix }, Uri::Object { bucket: given, key }) => {
                bucket == given && is_under(key.as_ref(), prefix)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a path is `base`, or lies below it.
fn is_under(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| {
        base.is_empty() || base.ends_with('/') || rest.is_empty() || rest.starts_with('/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, uri: &str) -> bool {
        Uri::parse(uri).is_ok_and(|uri| Rule::parse(rule).unwrap().allows(&uri))
    }

    #[test]
    fn an_entry_allows_what_is_below_it() {
        for (rule, uri) in [
            (
                "https://good.example.org/",
                "https://good.example.org/a.csv",
            ),
            (
                "https://good.example.org",
                "https://good.example.org/a/b.csv",
            ),
            (
                "https://good.example.org/",
                "HTTPS://GOOD.example.ORG:443/a?sig=1#f",
            ),
            (
                "https://good.example.org:8443/",
                "https://good.example.org:8443/a",
            ),
            ("https://*.example.org/", "https://a.example.org/x"),
            ("https://*.example.org/", "https://a.b.example.org/x"),
            (
                "https://good.example.org/sets/",
                "https://good.example.org/sets/a",
            ),
            (
                "https://good.example.org/sets",
                "https://good.example.org/sets/a",
            ),
            (
                "https://good.example.org/sets/",
                "https://good.example.org/x/../sets/a",
            ),
            ("http://good.example.org/", "http://good.example.org/a"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/a"),
            ("s3://lake/raw/", "s3://lake/raw/a.csv"),
            ("s3://lake", "s3://lake/raw/a.csv"),
            ("s3://lake/raw", "s3://lake/raw/a.csv"),
        ] {
            assert!(allows(rule, uri), "{rule} {uri}");
        }
    }

    /// Entries, and what they must not allow.
    const REFUSED: &[(&str, &str)] = &[
        (
            "https://good.example.org/",
            "https://good.example.org.evil.com/a",
        ),
        (
            "https://good.example.org/",
            "https://evil-good.example.org/a",
        ),
        (
            "https://good.example.org/",
            "https://good.example.org@evil.com/a",
        ),
        ("https://good.example.org/", "https://good@evil.com/a"),
        (
            "https://good.example.org/",
            "https://evil.com/good.example.org/",
        ),
        (
            "https://good.example.org/",
            "https://evil.com#@good.example.org/",
        ),
        (
            "https://good.example.org/",
            "https://evil.com\\@good.example.org/",
        ),
        ("https://good.example.org/", "https://good.example.org./a"),
        ("https://good.example.org/", "http://good.example.org/a"),
        (
            "https://good.example.org/",
            "https://good.example.org:8443/a",
        ),
        ("http://good.example.org/", "https://good.example.org/a"),
        ("https://*.example.org/", "https://example.org/a"),
        ("https://*.example.org/", "https://evilexample.org/a"),
        ("https://*.example.org/", "https://a.example.org.evil.com/"),
        ("https://*.example.org/", "https://.example.org/"),
        (
            "https://good.example.org/sets/",
            "https://good.example.org/sets",
        ),
        (
            "https://good.example.org/sets",
            "https://good.example.org/sets2/a",
        ),
        (
            "https://good.example.org/sets/",
            "https://good.example.org/SETS/a",
        ),
        (
            "https://good.example.org/sets/",
            "https://good.example.org/sets/../secret",
        ),
        (
            "https://good.example.org/sets/",
            "https://good.example.org/sets/%2e%2e/secret",
        ),
        (
            "https://good.example.org/sets/",
            "https://good.example.org/sets/..%2fsecret",
        ),
        (
            "https://good.example.org/sets/",
            "https://good.example.org/sets/..%5Csecret",
        ),
        (
            "https://good.example.org/sets/",
            "https://good.example.org/sets/%252e%252e/x",
        ),
        ("s3://lake/raw/", "s3://lake/rawer/a"),
        ("s3://lake/raw", "s3://lake/rawer/a"),
        ("s3://lake/raw/", "s3://lake/raw/../secret"),
        ("s3://lake/raw/", "s3://lake2/raw/a"),
        ("s3://lake/raw/", "s3://lake/raw/"),
        ("s3://lake/raw/", "s3://lake"),
        ("s3://lake/", "https://lake/a"),
        ("https://good.example.org/", "ftp://good.example.org/a"),
        ("https://good.example.org/", "file:///etc/passwd"),
        ("https://good.example.org/", "https://good.example.org/a b"),
        ("https://good.example.org/", "https://good.example.org/a\n"),
    ];

    #[test]
    fn nothing_else_is_allowed() {
        for (rule, uri) in REFUSED {
            assert!(!allows(rule, uri), "{rule} {uri}");
        }
    }

    #[test]
    fn an_entry_that_is_no_place_is_refused() {
        for text in [
            "",
            "*",
            "https://*/",
            "https://*.org/",
            "https://a.*.org/",
            "https://*.127.0.0.1/",
            "https://u:p@example.org/",
            "https://example.org/?a=b",
            "ftp://example.org/",
            "s3://",
            "s3://*/",
            "example.org",
        ] {
            assert!(Rule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let uri = Uri::parse("https://example.org:8443/a/b.csv?sig=secret#secret").unwrap();
        assert_eq!(uri.to_string(), "https://example.org:8443/a/b.csv");
        for text in [
            "https://u:secret@example.org/a?secret#secret",
            "xyz://u:secret@example.org/a?secret",
            "secret@example.org",
        ] {
            assert!(!redacted(text).contains("secret"), "{}", redacted(text));
        }
    }
}
