//! The page itself, built into the binary. It asks nothing of anybody but this process.

use axum::{
    Router,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::IntoResponse as _,
    routing::get,
};

/// Path, kind and content.
const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("../../web/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../../web/style.css")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("../../web/app.js")),
    ("/dom.js", "text/javascript; charset=utf-8", include_str!("../../web/dom.js")),
    ("/fetch.js", "text/javascript; charset=utf-8", include_str!("../../web/fetch.js")),
    ("/graph.js", "text/javascript; charset=utf-8", include_str!("../../web/graph.js")),
    ("/layout.js", "text/javascript; charset=utf-8", include_str!("../../web/layout.js")),
    ("/charts.js", "text/javascript; charset=utf-8", include_str!("../../web/charts.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../../web/icon.svg")),
];

/// A route for each file.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        let file = move || async move {
            // Small, and another version has other files under the same names.
            ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], content).into_response()
        };
        router.route(path, get(file))
    })
}
