//! An object as the API server sends it, read only as far as is needed.
//!
//! What people wrote stays text until it is looked at for itself. The definitions prune nothing, so an object can nest deeper than any
//! parser follows; were it read as a part of a list, nobody would see the rest of the list.

use std::borrow::Cow;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Resource,
    core::{ApiResource, ObjectMeta},
};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object of one of our kinds.
#[derive(Debug, Clone, Deserialize)]
pub struct Item {
    /// What is needed of it; the rest, such as `managedFields`, nests as deep as the object.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    /// As it was written.
    #[serde(default)]
    pub spec: Option<Box<RawValue>>,
    /// As it was written.
    #[serde(default)]
    pub status: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    resource_version: Option<String>,
    creation_timestamp: Option<Timestamp>,
}

fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let found = Metadata::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: found.name,
        namespace: found.namespace,
        uid: found.uid,
        generation: found.generation,
        resource_version: found.resource_version,
        creation_timestamp: found.creation_timestamp.map(Time),
        ..ObjectMeta::default()
    })
}

impl Resource for Item {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::{ObjectList, WatchEvent};

    #[test]
    fn an_object_that_nests_too_deep_hides_no_other_one() {
        let deep = format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500));
        let object = |name: &str, spec: &str| {
            format!(
                "{{\"apiVersion\":\"doorward.dev/v1alpha1\",\"kind\":\"AccessRole\",\"metadata\":{{\"name\":\"{name}\",\"creationTimestamp\":\"2026-01-01T00:00:00Z\",\
                 \"managedFields\":[{{\"fieldsV1\":{spec}}}],\"resourceVersion\":\"7\"}},\"spec\":{spec}}}"
            )
        };
        let list = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"AccessRoleList\",\"metadata\":{{\"resourceVersion\":\"9\"}},\"items\":[{},{}]}}",
            object("deep", &deep),
            object("flat", "{\"grants\":[]}")
        );
        let list: ObjectList<Item> = serde_json::from_str(&list).unwrap();
        let names: Vec<_> = list.items.iter().map(|item| item.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["deep", "flat"]);
        assert!(list.items[0].metadata.creation_timestamp.is_some());
        let event = format!("{{\"type\":\"ADDED\",\"object\":{}}}", object("deep", &deep));
        let event: WatchEvent<Item> = serde_json::from_str(&event).unwrap();
        assert!(matches!(event, WatchEvent::Added(item) if item.spec.is_some()));
    }
}
