//! Who changed the replica count of a workload last, by `metadata.managedFields`: the API
//! server notes there which manager set which field, also through the scale subresource,
//! and takes the field from all others when its value changes. Whoever applies the same
//! value on the server side owns it as well.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use stornx_core::model::CountBy;

use super::rule::MANAGER;

/// Who set `spec.replicas`.
pub(crate) fn counted_by(meta: &ObjectMeta) -> CountBy {
    let sets_count = |fields: &serde_json::Value| fields["f:spec"].get("f:replicas").is_some();
    let mut owners = meta
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| sets_count(&fields.0)))
        .map(|entry| entry.manager.as_deref() == Some(MANAGER))
        .peekable();
    if owners.peek().is_none() {
        CountBy::Unknown
    } else if owners.all(|ours| ours) {
        CountBy::StornX
    } else {
        CountBy::Others
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(managed: Value) -> CountBy {
        counted_by(&serde_json::from_value(json!({ "managedFields": managed })).unwrap())
    }

    fn entry(manager: &str, field: &str) -> Value {
        json!({
            "manager": manager, "operation": "Update", "subresource": "scale",
            "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": { "f:spec": { field: {} } }
        })
    }

    #[test]
    fn the_count_is_whose_field_it_is() {
        let (ours, theirs) = (entry("stornx", "f:replicas"), entry("kubectl", "f:replicas"));
        let template = entry("kubectl", "f:template");
        assert_eq!(read(json!([ours, template])), CountBy::StornX);
        assert_eq!(read(json!([theirs])), CountBy::Others);
        assert_eq!(read(json!([ours, theirs])), CountBy::Others);
        assert_eq!(read(json!([template])), CountBy::Unknown);
        assert_eq!(read(json!([])), CountBy::Unknown);
        assert_eq!(counted_by(&ObjectMeta::default()), CountBy::Unknown);
    }
}
