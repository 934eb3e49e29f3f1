//! The settings of the webhook that steers new replicas, and what they must hold.

use std::path::PathBuf;

use super::values::Text;

/// How the webhook is served.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WebhookSettings {
    pub(crate) enabled: bool,
    pub(crate) port: u16,
    pub(crate) url: Text,
    pub(crate) cert_file: Text,
    pub(crate) key_file: Text,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 8443,
            url: Text::default(),
            cert_file: Text::default(),
            key_file: Text::default(),
        }
    }
}

impl WebhookSettings {
    /// The files with certificate and key, where both are given.
    pub(crate) fn files(&self) -> Option<(PathBuf, PathBuf)> {
        Some((self.cert_file.given()?.into(), self.key_file.given()?.into()))
    }

    /// What cannot be used: the name of the setting, and what is allowed.
    pub(super) fn refusals(&self) -> Vec<(&'static str, &'static str)> {
        let mut refusals = Vec::new();
        if let Some(url) = self.url.given() {
            if !is_base_url(url) {
                refusals.push(("WEBHOOK_URL", "https://HOST or https://HOST:PORT, or empty"));
            } else if self.port == 0 {
                refusals.push(("WEBHOOK_PORT", "a port above 0 beside WEBHOOK_URL"));
            }
        }
        match (self.cert_file.given(), self.key_file.given()) {
            (Some(_), None) => {
                refusals.push(("WEBHOOK_CERT_FILE", "a file beside WEBHOOK_KEY_FILE"));
            }
            (None, Some(_)) => {
                refusals.push(("WEBHOOK_KEY_FILE", "a file beside WEBHOOK_CERT_FILE"));
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        refusals
    }
}

/// The API server asks webhooks over TLS only.
fn is_base_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let host = uri.host().is_some_and(|host| !host.is_empty());
    uri.scheme_str() == Some("https") && host && uri.query().is_none() && uri.path() == "/"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named() {
        let named = |settings: WebhookSettings| {
            settings.refusals().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let url = |url: &str| WebhookSettings { url: Text::of(url), ..WebhookSettings::default() };
        assert_eq!(named(WebhookSettings::default()), [""; 0]);
        for good in ["https://10.0.0.7:8443", "https://[fd00::7]:8443", "https://hook.example.com/"]
        {
            assert_eq!(named(url(good)), [""; 0], "{good}");
        }
        for bad in
            ["10.0.0.7:8443", "http://10.0.0.7", "https://", "https://x/pods", "https://x?a=b"]
        {
            assert_eq!(named(url(bad)), ["WEBHOOK_URL"], "{bad}");
        }
        let any_port = WebhookSettings { port: 0, ..url("https://10.0.0.7") };
        assert_eq!(named(any_port), ["WEBHOOK_PORT"]);
        let half = WebhookSettings { key_file: Text::of("tls.key"), ..WebhookSettings::default() };
        assert_eq!(half.files(), None);
        assert_eq!(named(half), ["WEBHOOK_KEY_FILE"]);
    }
}
