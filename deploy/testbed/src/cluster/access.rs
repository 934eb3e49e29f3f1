//! Who may speak with the API server, and how: static tokens, one for each user, and
//! kubeconfigs made of them. `admin` may do everything; others have no rights until a
//! test binds a role to their name.

use std::{collections::BTreeMap, path::PathBuf};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use crate::error::{BedError, Result, Tried};

/// The user who may do everything.
pub const ADMIN: &str = "admin";

/// Users and what is needed to reach the API server.
#[derive(Debug)]
pub(super) struct Access {
    /// Token by user.
    tokens: BTreeMap<String, String>,
    /// The file with the certificate of the authority.
    authority: PathBuf,
}

/// The kubeconfig of a user in the data folder.
pub(super) fn file_name(user: &str) -> String {
    format!("kubeconfig-{user}")
}

impl Access {
    pub(super) fn new(users: &[String], authority: PathBuf) -> Self {
        let named = users.iter().map(String::as_str).chain([ADMIN]);
        // The key of a throw-away cluster on loopback: its name tells who it is in logs.
        let tokens = named.map(|user| (user.to_owned(), format!("token-of-{user}"))).collect();
        Self { tokens, authority }
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().map(String::as_str)
    }

    /// The file that the API server reads: token, user, uid, groups.
    pub(super) fn token_file(&self) -> String {
        let line = |(user, token): (&String, &String)| {
            let groups = if user == ADMIN { ",\"system:masters\"" } else { "" };
            format!("{token},{user},{user}{groups}\n")
        };
        self.tokens.iter().map(line).collect()
    }

    /// The kubeconfig of a user for a server at `url`.
    pub(super) fn kubeconfig(&self, user: &str, url: &str) -> Result<String> {
        let token = self
            .tokens
            .get(user)
            .ok_or_else(|| BedError::Absent(format!("no user {user:?} in this cluster")))?;
        // JSON is YAML, too.
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "stornx-testbed",
                "cluster": {"server": url, "certificate-authority": self.authority},
            }],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{
                "name": "stornx-testbed",
                "context": {"cluster": "stornx-testbed", "user": user},
            }],
            "current-context": "stornx-testbed",
        });
        Ok(format!("{text:#}\n"))
    }

    /// A client that speaks as a user.
    pub(super) async fn client(&self, user: &str, url: &str) -> Result<Client> {
        let refused =
            |detail: String| BedError::Invalid { what: format!("kubeconfig of {user}"), detail };
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig(user, url)?)
            .map_err(|error| refused(error.to_string()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|error| refused(error.to_string()))?;
        Client::try_from(config).tried(|| format!("client of {user}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_administrator_has_a_group() {
        let access = Access::new(&["stornx".to_owned()], "ca.crt".into());
        assert_eq!(
            access.token_file(),
            "token-of-admin,admin,admin,\"system:masters\"\ntoken-of-stornx,stornx,stornx\n"
        );
        let message = access.kubeconfig("nobody", "https://x").unwrap_err().to_string();
        assert!(message.contains("nobody"), "{message}");
    }
}
