//! Custom resource definitions, created and waited for until the API server serves them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, api::DeleteParams};

use super::Crd;
use crate::{
    dirs,
    error::{Result, Tried},
    programs::Programs,
    wait::until,
};

const SCALED_OBJECTS: &str = include_str!("scaledobjects.yaml");

/// How long the API server may take to serve a new definition.
const SERVED: std::time::Duration = std::time::Duration::from_secs(20);

impl Crd {
    /// The name of the definition.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DestinationRule => "destinationrules.networking.istio.io",
            Self::ScaledObject => "scaledobjects.keda.sh",
        }
    }
}

/// Creates a definition and waits until it is served.
pub(super) async fn create(client: &Client, programs: &Programs, crd: Crd) -> Result<()> {
    let manifest = match crd {
        Crd::DestinationRule => dirs::read(programs.destination_rules())?,
        Crd::ScaledObject => SCALED_OBJECTS.to_owned(),
    };
    let creating = || format!("create {}", crd.name());
    // The manifest goes as it is: the API server reads YAML.
    let request = http::Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        .header(http::header::CONTENT_TYPE, "application/yaml")
        .body(manifest.into_bytes())
        .map_err(kube::Error::HttpError)
        .tried(creating)?;
    client.request_text(request).await.tried(creating)?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    until(crd.name(), SERVED, || established(&api, crd)).await
}

/// Removes a definition and everything of its kind.
pub(super) async fn remove(client: &Client, crd: Crd) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    api.delete(crd.name(), &DeleteParams::default())
        .await
        .tried(|| format!("remove {}", crd.name()))?;
    until(crd.name(), SERVED, || async {
        match api.get_opt(crd.name()).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

async fn established(api: &Api<CustomResourceDefinition>, crd: Crd) -> Result<(), String> {
    let found = api.get(crd.name()).await.map_err(|error| error.to_string())?;
    let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
    let holds = conditions.iter().any(|one| one.type_ == "Established" && one.status == "True");
    if holds { Ok(()) } else { Err("not established".to_owned()) }
}
