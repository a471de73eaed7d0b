//! The GraphiQL page at `/graphiql`. Its files are embedded from `web/dist` at build time.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use include_dir::{Dir, include_dir};

static DIST: Dir<'static> = include_dir!("$OUT_DIR/web");

/// The page of a build without `make web`.
const NOT_BUILT: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>SalesPulse – GraphiQL</title>
<h1>GraphiQL is not part of this build</h1>
<p>Install Node.js 20.19 or newer, run <code>make web</code>, then build SalesPulse again.</p>
<p>The API itself is at <code>/graphql</code>.</p>
</html>
";

/// The page may connect to its own server only. Monaco, its editor, sets inline styles; `'self'` includes the server's
/// WebSocket.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self' 'unsafe-inline'; \
    font-src 'self' data:; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const NOSNIFF: (HeaderName, &str) = (X_CONTENT_TYPE_OPTIONS, "nosniff");

/// `/graphiql` and its assets.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    routes_of(&DIST)
}

fn routes_of<S: Clone + Send + Sync + 'static>(dist: &'static Dir<'static>) -> Router<S> {
    Router::new()
        .route("/graphiql", get(move || async move { page(dist) }))
        .route("/graphiql/assets/{*path}", get(move |Path(path): Path<String>| async move { asset(dist, &path) }))
}

fn page(dist: &'static Dir<'static>) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        NOSNIFF,
    ];
    let html = dist.get_file("index.html").map_or(NOT_BUILT.as_bytes(), |file| file.contents());
    (headers, html).into_response()
}

/// A file whose name changes with its content; all but `licenses.md`, which changes with the packages.
fn asset(dist: &'static Dir<'static>, path: &str) -> Response {
    let Some(file) = dist.get_file(format!("assets/{path}")) else {
        return (StatusCode::NOT_FOUND, [NOSNIFF]).into_response();
    };
    let lasts = if path.ends_with(".md") { "no-cache" } else { "public, max-age=31536000, immutable" };
    let headers = [(CONTENT_TYPE, content_type(path)), (CACHE_CONTROL, lasts), NOSNIFF];
    (headers, file.contents()).into_response()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("md") => "text/plain; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("ttf") => "font/ttf",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use include_dir::{DirEntry, File};
    use tower::ServiceExt;

    use super::*;

    static BUILT: Dir<'static> = Dir::new(
        "",
        &[
            DirEntry::File(File::new("index.html", b"<title>built</title>")),
            DirEntry::Dir(Dir::new("assets", &[DirEntry::File(File::new("assets/page-1a2b.js", b"run()"))])),
        ],
    );
    static MISSING: Dir<'static> = Dir::new("", &[]);

    async fn get(dist: &'static Dir<'static>, uri: &str) -> Response {
        let request = Request::get(uri).body(Body::empty()).expect("a request");
        routes_of(dist).oneshot(request).await.expect("infallible")
    }

    async fn text(response: Response) -> String {
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        String::from_utf8(bytes.to_vec()).expect("UTF-8")
    }

    #[tokio::test]
    async fn the_page_may_load_from_its_own_server_only() {
        let response = get(&BUILT, "/graphiql").await;
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers();
        assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(headers[CACHE_CONTROL], "no-cache");
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
        assert_eq!(headers[REFERRER_POLICY], "no-referrer");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.contains("frame-ancestors 'none'"));
        // No host and no scheme except the fonts and images embedded in the styles.
        assert!(!policy.replace("data:", "").contains([':', '*']));
        assert_eq!(text(response).await, "<title>built</title>");
    }

    #[tokio::test]
    async fn assets_are_kept_for_good() {
        let response = get(&BUILT, "/graphiql/assets/page-1a2b.js").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_eq!(response.headers()[CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(text(response).await, "run()");
    }

    #[tokio::test]
    async fn what_is_no_asset_is_not_found() {
        for path in ["gone.js", "../index.html", "%2e%2e/index.html"] {
            let response = get(&BUILT, &format!("/graphiql/assets/{path}")).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            assert!(!response.headers().contains_key(CACHE_CONTROL), "{path}");
        }
    }

    #[tokio::test]
    async fn a_build_without_the_page_tells_how_to_get_it() {
        let response = get(&MISSING, "/graphiql").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(text(response).await.contains("make web"));
    }

    /// The files of this very build, whichever they are.
    #[tokio::test]
    async fn every_asset_of_this_build_has_its_type() {
        for file in DIST.get_dir("assets").map(Dir::files).into_iter().flatten() {
            let path = file.path().to_str().expect("UTF-8");
            assert_ne!(content_type(path), "application/octet-stream", "{path}");
        }
    }
}
