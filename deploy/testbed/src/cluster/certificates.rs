//! Keys and certificates of one cluster, made anew for each run: who trusts what.
//! One authority signs the API server's certificate; one key signs the tokens of
//! service accounts. People and programs show static tokens, no certificates.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::{
    dirs,
    error::{BedError, Result},
    namespace::CONTROL_PLANE,
};

/// File names in the data folder.
pub(super) const AUTHORITY: &str = "authority.crt";
pub(super) const SERVER: &str = "server.crt";
pub(super) const SERVER_KEY: &str = "server.key";
pub(super) const ACCOUNTS: &str = "accounts.pub";
pub(super) const ACCOUNTS_KEY: &str = "accounts.key";

/// Writes all of them into `folder`.
pub(super) fn write(folder: &Path) -> Result<()> {
    let files = make().map_err(|error| BedError::Invalid {
        what: "certificates".to_owned(),
        detail: error.to_string(),
    })?;
    for (name, text) in files {
        dirs::write(&folder.join(name), text)?;
    }
    Ok(())
}

/// File names and texts.
fn make() -> Result<[(&'static str, String); 5], rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "stornx-testbed");
    let authority = params.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(params, authority_key);

    let server_key = KeyPair::generate()?;
    let names = ["localhost", "kubernetes.default.svc", "127.0.0.1", CONTROL_PLANE];
    let mut params = CertificateParams::new(names.map(str::to_owned).to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    let server = params.signed_by(&server_key, &issuer)?.pem();

    let accounts = KeyPair::generate()?;
    Ok([
        (AUTHORITY, authority),
        (SERVER, server),
        (SERVER_KEY, server_key.serialize_pem()),
        (ACCOUNTS, accounts.public_key_pem()),
        (ACCOUNTS_KEY, accounts.serialize_pem()),
    ])
}
