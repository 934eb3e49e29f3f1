//! The memory in a ConfigMap.

use std::time::Duration;

use serde_json::json;
use stornx_core::{
    memory::{Memory, WorkloadMemory},
    ports::{PortError, StateStore},
    testing::contract,
    units::Timestamp,
};
use stornx_k8s::{ConfigMapStore, StoreOptions};

use crate::{
    shop::CONFIG_MAPS,
    support::{Api, Fault},
};

async fn store(api: &Api) -> ConfigMapStore {
    let options = StoreOptions {
        namespace: "stornx".parse().unwrap(),
        name: "stornx-memory".to_owned(),
        timeout: Duration::from_secs(5),
    };
    ConfigMapStore::new(&api.connect().await, options)
}

fn memory(workloads: u64) -> Memory {
    let mut memory = Memory::default();
    for number in 0..workloads {
        let scaled_at = Some(Timestamp::from_millis(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let id = format!("shop/Deployment/w{number}").parse().unwrap();
        memory.workloads.insert(id, WorkloadMemory { scaled_at, ..WorkloadMemory::default() });
    }
    memory
}

#[tokio::test(start_paused = true)]
async fn the_contract_of_a_store_is_kept() {
    contract::state_store(&store(&Api::new()).await).await;
}

#[tokio::test(start_paused = true)]
async fn two_writers_cannot_both_win() {
    let api = Api::new();
    let (first, second) = (store(&api).await, store(&api).await);
    first.load().await.unwrap();
    second.load().await.unwrap();
    first.save(&memory(1)).await.unwrap();
    let created = second.save(&memory(2)).await;
    assert!(matches!(created, Err(PortError::Conflict { .. })), "{created:?}");
    let blind = second.save(&memory(2)).await;
    assert!(matches!(blind, Err(PortError::Conflict { .. })), "it has to read first: {blind:?}");
    assert_eq!(second.load().await.unwrap(), memory(1));
    second.save(&memory(2)).await.unwrap();
    let late = first.save(&memory(3)).await;
    assert!(matches!(late, Err(PortError::Conflict { .. })), "{late:?}");
    assert_eq!(first.load().await.unwrap(), memory(2));
}

#[tokio::test(start_paused = true)]
async fn labels_and_other_keys_stay() {
    let api = Api::new();
    let store = store(&api).await;
    store.load().await.unwrap();
    store.save(&memory(1)).await.unwrap();
    let mut object = api.get(CONFIG_MAPS, "stornx/stornx-memory").unwrap();
    object["metadata"]["labels"]["team"] = json!("shop");
    object["data"] = json!({ "note": "hands off" });
    api.put(CONFIG_MAPS, object);
    store.load().await.unwrap();
    store.save(&memory(2)).await.unwrap();
    let object = api.get(CONFIG_MAPS, "stornx/stornx-memory").unwrap();
    assert_eq!(object["metadata"]["labels"]["team"], "shop");
    assert_eq!(object["data"]["note"], "hands off");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_says_how_to_start_over() {
    let api = Api::new();
    api.put(
        CONFIG_MAPS,
        json!({
            "metadata": { "namespace": "stornx", "name": "stornx-memory" },
            "binaryData": { "memory.json.gz": "bm90IGd6aXA=" }
        }),
    );
    let store = store(&api).await;
    let error = store.load().await.unwrap_err().to_string();
    assert!(error.contains("stornx/stornx-memory"), "{error}");
    assert!(error.contains("delete the config map"), "{error}");
    let blind = store.save(&memory(1)).await;
    assert!(matches!(blind, Err(PortError::Conflict { .. })), "it is not overwritten: {blind:?}");
}

#[tokio::test(start_paused = true)]
async fn a_memory_that_does_not_fit_is_not_sent() {
    let api = Api::new();
    let store = store(&api).await;
    store.load().await.unwrap();
    let error = store.save(&memory(120_000)).await.unwrap_err().to_string();
    assert!(error.contains("900000 fit"), "{error}");
    assert_eq!(api.all(CONFIG_MAPS).len(), 0);
    store.save(&memory(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_it_is_not_known_what_stands() {
    let api = Api::new();
    let store = store(&api).await;
    store.load().await.unwrap();
    store.save(&memory(1)).await.unwrap();
    api.fail("PATCH", "/configmaps", [Fault::DoneBut(504), Fault::Silence]);
    for _ in 0..2 {
        let lost = store.save(&memory(2)).await;
        assert!(matches!(lost, Err(PortError::Unavailable { .. })), "{lost:?}");
        assert_eq!(store.load().await.unwrap(), memory(2), "it was carried out");
    }
    api.fail("GET", "/configmaps", [Fault::Silence]);
    assert!(matches!(store.load().await, Err(PortError::Unavailable { .. })));
}
