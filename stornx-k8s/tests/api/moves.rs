//! The steps of moves, and what is taken away after them.

use serde_json::{Value, json};
use stornx_core::{
    ids::{PodName, WorkloadRef},
    plan::{AbortCause, Action, MoveEnd, MoveEnding, MoveWay, RoutePurpose},
    ports::{Actuator as _, PortError},
};

use crate::{
    shop::{DEPLOYMENTS, PODS, pod},
    support::{Api, Fault},
    write::{COST, VICTIM, annotation, cart, conflict, replicas, setup},
};

pub(crate) const AUTOSCALERS: &str = "/apis/autoscaling/v2/horizontalpodautoscalers";
const HELD: &str = "stornx.io/held-minimum";

fn name(pod: &str) -> PodName {
    format!("shop/{pod}").parse().unwrap()
}

fn start(observed: u32) -> Action {
    Action::StartMove {
        workload: cart(),
        observed,
        way: MoveWay::Surge,
        victim: name("cart-7d9f-a"),
        from: "n1".parse().unwrap(),
        to: "n2".parse().unwrap(),
    }
}

fn finish(victim: &str, replacement: &str) -> Action {
    let (victim, replacement) = (name(victim), name(replacement));
    Action::FinishMove { workload: cart(), observed: 2, victim, replacement }
}

fn give_up(observed: u32, surge: Option<&str>) -> Action {
    let cause = AbortCause::TimedOut;
    Action::AbortMove { workload: cart(), observed, surge: surge.map(name), cause }
}

fn unmark(observed: u32, pod: &str) -> Action {
    Action::Unmark { workload: cart(), observed, pods: vec![name(pod)] }
}

fn set_count(api: &Api, count: u32) {
    let mut object = api.get(DEPLOYMENTS, "shop/cart").unwrap();
    object["spec"]["replicas"] = json!(count);
    api.put(DEPLOYMENTS, object);
}

fn set_ready(api: &Api, ready: u32) {
    let mut object = api.get(DEPLOYMENTS, "shop/cart").unwrap();
    object["status"]["readyReplicas"] = json!(ready);
    api.put(DEPLOYMENTS, object);
}

fn mark(api: &Api, pod_name: &str, before: &str) {
    let mut marked = pod("cart", pod_name, "n1");
    marked["metadata"]["annotations"][COST] = json!("-2147483648");
    marked["metadata"]["annotations"][VICTIM] = json!(before);
    api.put(PODS, marked);
}

fn patches(api: &Api) -> usize {
    api.requests().iter().filter(|request| request.starts_with("PATCH")).count()
}

#[tokio::test(start_paused = true)]
async fn a_move_begins_with_a_mark_and_one_replica_more() {
    let (api, actuator) = setup().await;
    conflict(actuator.apply(&start(3)).await);
    actuator.apply(&start(2)).await.unwrap();
    assert_eq!(replicas(&api), 3);
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), "-2147483648");
    let requests = api.requests();
    let at = |path: &str| {
        let found = |request: &String| request.starts_with("PATCH") && request.contains(path);
        requests.iter().position(found).unwrap()
    };
    assert!(at("/pods/cart-7d9f-a") < at("/deployments/cart"), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_move_begins_only_where_its_replacement_can_be_told() {
    let (api, actuator) = setup().await;
    set_ready(&api, 3);
    let text = conflict(actuator.apply(&start(2)).await);
    assert!(text.contains("counts 3 replicas as Ready"), "{text}");
    set_ready(&api, 2);
    mark(&api, "cart-7d9f-b", "none");
    let text = conflict(actuator.apply(&start(2)).await);
    assert!(text.contains("cart-7d9f-b is marked"), "{text}");
    assert_eq!((replicas(&api), patches(&api)), (json!(2), 0));
}

#[tokio::test(start_paused = true)]
async fn a_mark_comes_off_when_no_replacement_was_asked_for() {
    let (api, actuator) = setup().await;
    for (status, mark) in [(403, Value::Null), (500, json!("none"))] {
        api.fail("PATCH", "/deployments/cart/scale", [Fault::Status(status)]);
        actuator.apply(&start(2)).await.unwrap_err();
        assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), mark, "{status}");
        assert_eq!(replicas(&api), 2);
    }
    api.fail("PATCH", "/pods/cart-7d9f-a", [Fault::Status(403)]);
    actuator.apply(&start(2)).await.unwrap_err();
    assert_eq!(replicas(&api), 2, "nothing is asked for without the mark");
}

#[tokio::test(start_paused = true)]
async fn a_move_ends_only_while_its_replacement_is_counted() {
    let (api, actuator) = setup().await;
    let end = finish("cart-7d9f-a", "cart-7d9f-b");
    mark(&api, "cart-7d9f-a", "7");
    set_ready(&api, 1);
    let text = conflict(actuator.apply(&end).await);
    assert!(text.contains("counts 1 of 2 replicas as Ready"), "{text}");
    set_ready(&api, 2);
    let observed = |generation: i64| {
        let mut object = api.get(DEPLOYMENTS, "shop/cart").unwrap();
        object["status"]["observedGeneration"] = json!(generation);
        api.put(DEPLOYMENTS, object);
    };
    observed(0);
    let text = conflict(actuator.apply(&end).await);
    assert!(text.contains("counts 0 of 2 replicas as Ready"), "its controller is behind: {text}");
    observed(1);
    // A mark that somebody else has changed the cost of is set anew, and stays when the
    // count is not lowered.
    let mut object = api.get(PODS, "shop/cart-7d9f-a").unwrap();
    object["metadata"]["annotations"][COST] = json!("3");
    api.put(PODS, object);
    api.fail("PATCH", "/deployments/cart/scale", [Fault::Status(403)]);
    actuator.apply(&end).await.unwrap_err();
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), "-2147483648");
    assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), "7");
    let before = patches(&api);
    actuator.apply(&end).await.unwrap();
    assert_eq!((replicas(&api), patches(&api)), (json!(1), before + 1), "the count alone");
}

#[tokio::test(start_paused = true)]
async fn a_move_ends_only_while_its_replacement_is_ready() {
    let (api, actuator) = setup().await;
    let mut unready = pod("cart", "cart-7d9f-b", "n1");
    unready["status"]["conditions"][3]["status"] = json!("False");
    api.put(PODS, unready);
    let text = conflict(actuator.apply(&finish("cart-7d9f-a", "cart-7d9f-b")).await);
    assert!(text.contains("shop/cart-7d9f-b is not Ready"), "{text}");
    let text = conflict(actuator.apply(&finish("cart-7d9f-a", "cart-7d9f-z")).await);
    assert!(text.contains("shop/cart-7d9f-z is not Ready"), "{text}");
    assert_eq!((replicas(&api), patches(&api)), (json!(2), 0));

    api.put(PODS, pod("cart", "cart-7d9f-b", "n1"));
    actuator.apply(&finish("cart-7d9f-a", "cart-7d9f-b")).await.unwrap();
    assert_eq!(replicas(&api), 1);
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), "-2147483648");
}

#[tokio::test(start_paused = true)]
async fn a_count_that_somebody_else_set_is_not_lowered() {
    let (api, actuator) = setup().await;
    let set_by = |managers: &[&str]| {
        let fields = json!({ "f:spec": { "f:replicas": {} } });
        let entry = |manager| {
            json!({ "manager": manager, "operation": "Update", "apiVersion": "apps/v1",
                "fieldsType": "FieldsV1", "fieldsV1": fields })
        };
        let entries: Vec<Value> = managers.iter().map(entry).collect();
        let mut object = api.get(DEPLOYMENTS, "shop/cart").unwrap();
        object["metadata"]["managedFields"] = json!(entries);
        api.put(DEPLOYMENTS, object);
    };
    let counted_by_others = |observed| Action::CloseMove {
        workload: cart(),
        observed,
        end: MoveEnd::GivenUp(AbortCause::CountChanged),
    };
    for managers in [&["kubectl"][..], &["stornx", "kubectl"]] {
        set_by(managers);
        let ends = [finish("cart-7d9f-a", "cart-7d9f-b"), give_up(2, Some("cart-7d9f-a"))];
        for end in ends.into_iter().chain([give_up(2, None)]) {
            let text = conflict(actuator.apply(&end).await);
            assert!(text.contains("somebody else set the count"), "{managers:?}: {text}");
        }
        actuator.apply(&counted_by_others(2)).await.unwrap();
    }
    assert_eq!((replicas(&api), patches(&api)), (json!(2), 0));

    set_by(&["stornx"]);
    let text = conflict(actuator.apply(&counted_by_others(2)).await);
    assert!(text.contains("nobody else has set the count"), "{text}");
    actuator.apply(&finish("cart-7d9f-a", "cart-7d9f-b")).await.unwrap();
    assert_eq!(replicas(&api), 1);
}

/// An HPA over `cart` with this minimum, of 2 to 3.
fn autoscaler(api: &Api, min: u32, held: Option<&str>) {
    let annotations = held.map_or(json!({}), |held| json!({ HELD: held }));
    api.put(
        AUTOSCALERS,
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": { "namespace": "shop", "name": "cart", "annotations": annotations },
            "spec": { "minReplicas": min, "maxReplicas": 3, "scaleTargetRef":
                { "apiVersion": "apps/v1", "kind": "Deployment", "name": "cart" } }
        }),
    );
}

fn minimum(api: &Api) -> (Value, Value) {
    let object = api.get(AUTOSCALERS, "shop/cart").unwrap();
    (object["spec"]["minReplicas"].clone(), object["metadata"]["annotations"][HELD].clone())
}

fn hold(observed: u32) -> Action {
    let mut action = start(observed);
    if let Action::StartMove { way, .. } = &mut action {
        *way = MoveWay::Hold;
    }
    action
}

fn give_back(goes: Option<&str>, ending: Option<MoveEnding>) -> Action {
    Action::GiveBackMinimum { workload: cart(), observed: 2, goes: goes.map(name), ending }
}

#[tokio::test(start_paused = true)]
async fn the_minimum_of_an_autoscaler_is_raised_and_given_back() {
    let (api, actuator) = setup().await;
    let text = conflict(actuator.apply(&hold(2)).await);
    assert!(text.contains("no autoscaler is over it"), "{text}");
    autoscaler(&api, 1, None);
    conflict(actuator.apply(&hold(3)).await);
    actuator.apply(&hold(2)).await.unwrap();
    assert_eq!(minimum(&api), (json!(3), json!("1/3")));
    assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), "none");
    assert_eq!(replicas(&api), 2, "the count is left to the autoscaler");
    let text = conflict(actuator.apply(&hold(2)).await);
    assert!(text.contains("is raised already"), "{text}");

    let finish = |replacement| Some(MoveEnding::Finish { replacement: name(replacement) });
    let text =
        conflict(actuator.apply(&give_back(Some("cart-7d9f-a"), finish("cart-7d9f-z"))).await);
    assert!(text.contains("cart-7d9f-z is not Ready"), "{text}");
    assert_eq!(minimum(&api), (json!(3), json!("1/3")));
    actuator.apply(&give_back(Some("cart-7d9f-a"), finish("cart-7d9f-b"))).await.unwrap();
    assert_eq!(minimum(&api), (json!(1), Value::Null));
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), "-2147483648");
    let text = conflict(actuator.apply(&give_back(None, None)).await);
    assert!(text.contains("is not raised"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_minimum_is_raised_no_higher_than_the_maximum_and_anothers_stays() {
    let (api, actuator) = setup().await;
    set_count(&api, 3);
    autoscaler(&api, 1, None);
    let text = conflict(actuator.apply(&hold(3)).await);
    assert!(text.contains("allows no more than 3"), "{text}");
    assert_eq!(minimum(&api), (json!(1), Value::Null));

    autoscaler(&api, 2, Some("1/3"));
    actuator.apply(&give_back(None, None)).await.unwrap();
    assert_eq!(minimum(&api), (json!(2), Value::Null), "somebody else has set 2");

    for (manager, left) in [("stornx", 1), ("kubectl", 3)] {
        autoscaler(&api, 3, Some("1/3"));
        let mut object = api.get(AUTOSCALERS, "shop/cart").unwrap();
        object["metadata"]["managedFields"] = json!([{
            "manager": manager, "operation": "Update", "apiVersion": "autoscaling/v2",
            "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:minReplicas": {} } }
        }]);
        api.put(AUTOSCALERS, object);
        actuator.apply(&give_back(None, None)).await.unwrap();
        assert_eq!(minimum(&api), (json!(left), Value::Null), "{manager} has set 3");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mark_comes_off_when_the_minimum_was_not_given_back() {
    let (api, actuator) = setup().await;
    autoscaler(&api, 3, Some("1/3"));
    mark(&api, "cart-7d9f-a", "none");
    let ending = Some(MoveEnding::Undo { cause: AbortCause::TimedOut });
    let undo = give_back(Some("cart-7d9f-b"), ending);
    for (status, mark) in [(403, Value::Null), (500, json!("none"))] {
        api.fail("PATCH", "/horizontalpodautoscalers/cart", [Fault::Status(status)]);
        actuator.apply(&undo).await.unwrap_err();
        assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), Value::Null, "the victim stays");
        assert_eq!(annotation(&api, "cart-7d9f-b", VICTIM), mark, "{status}");
        assert_eq!(minimum(&api), (json!(3), json!("1/3")));
    }
    let ending = Some(MoveEnding::Undo { cause: AbortCause::VictimGone });
    actuator.apply(&give_back(None, ending)).await.unwrap();
    assert_eq!(annotation(&api, "cart-7d9f-b", VICTIM), Value::Null, "nobody is to go");
}

#[tokio::test(start_paused = true)]
async fn a_surge_that_never_came_is_given_up_by_the_count_alone() {
    let (api, actuator) = setup().await;
    let text = conflict(actuator.apply(&give_up(2, None)).await);
    assert!(text.contains("2 replicas are there, none is missing"), "{text}");
    assert_eq!(replicas(&api), 2);

    set_count(&api, 3);
    mark(&api, "cart-7d9f-a", "none");
    actuator.apply(&give_up(3, None)).await.unwrap();
    assert_eq!((replicas(&api), patches(&api)), (json!(2), 2));
    assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_move_is_closed_at_the_count_that_was_seen_and_nothing_is_written() {
    let (api, actuator) = setup().await;
    let close = |observed| Action::CloseMove { workload: cart(), observed, end: MoveEnd::Done };
    actuator.apply(&close(2)).await.unwrap();
    let text = conflict(actuator.apply(&close(3)).await);
    assert!(text.contains("expected 3 replicas, found 2"), "{text}");
    assert_eq!(patches(&api), 0);
}

#[tokio::test(start_paused = true)]
async fn marks_come_off_with_what_was_there_before_them() {
    for (before, cost) in [("7", json!("7")), ("none", Value::Null), ("true", Value::Null)] {
        let (api, actuator) = setup().await;
        mark(&api, "cart-7d9f-a", before);
        actuator.apply(&unmark(2, "cart-7d9f-a")).await.unwrap();
        assert_eq!(annotation(&api, "cart-7d9f-a", COST), cost, "{before}");
        assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), Value::Null);
    }
}

#[tokio::test(start_paused = true)]
async fn marks_stay_while_a_replica_is_about_to_go() {
    let (api, actuator) = setup().await;
    mark(&api, "cart-7d9f-a", "none");
    set_count(&api, 1);
    let text = conflict(actuator.apply(&unmark(1, "cart-7d9f-a")).await);
    assert!(text.contains("a replica is about to go"), "{text}");
    conflict(actuator.apply(&unmark(2, "cart-7d9f-a")).await);
    assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), "none");
}

#[tokio::test(start_paused = true)]
async fn only_replicas_without_a_node_are_released() {
    let (api, actuator) = setup().await;
    let mut waiting = pod("cart", "cart-7d9f-c", "n1");
    waiting["spec"].as_object_mut().unwrap().remove("nodeName");
    api.put(PODS, waiting);
    let release = Action::Release {
        workload: cart(),
        pods: vec![name("cart-7d9f-a"), name("cart-7d9f-c"), name("cart-7d9f-z")],
    };
    // What the eviction answers is the API server's; here, that one is asked for.
    api.fail("POST", "/eviction", [Fault::Status(429)]);
    let text = conflict(actuator.apply(&release).await);
    assert!(text.contains("a disruption budget keeps cart-7d9f-c for now"), "{text}");
    let evictions: Vec<String> =
        api.requests().into_iter().filter(|request| request.starts_with("POST")).collect();
    let [one] = evictions.as_slice() else { panic!("{evictions:?}") };
    assert!(one.contains("/pods/cart-7d9f-c/eviction"), "{one}");
}

#[tokio::test(start_paused = true)]
async fn routes_are_not_tried() {
    let (api, actuator) = setup().await;
    let workload: WorkloadRef = cart();
    let action = Action::SetRoutes {
        host: "cart.shop.svc.cluster.local".parse().unwrap(),
        workload,
        from: Default::default(),
        to: Default::default(),
        first: true,
        purpose: RoutePurpose::Improve,
    };
    let result = actuator.apply(&action).await;
    assert!(matches!(result, Err(PortError::NotTried { .. })), "{result:?}");
    assert!(!actuator.carries_out(action.kind()));
    assert_eq!(api.requests(), [] as [String; 0]);
}
