//! The official `openai` Python SDK before the gateway; its side of the test is `tests/clients`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    harness::{KEY, Setup},
    upstream::{Fault, Gate, Received, Script, Upstream},
};

/// What the upstream's model of that name does.
fn scripted(request: &Received, gate: &Gate) -> Script {
    match request.model().as_str() {
        "tools" => Script::calls("weather", r#"{"city":"Oslo","unit":"c"}"#),
        "json" => Script::says(r#"{"name": "Ada", "age": 36}"#),
        "endless" => Script::says("word ".repeat(50).as_str()).after_events(5, Fault::Wait(gate.clone())),
        "long" => Script::says(&"word ".repeat(3_000)).pace(Duration::from_millis(1)),
        "cut" => Script::says("half of an answer").cut_after_events(3),
        "broken" => Script::error(500, "server_error", "broken"),
        "silent" => Script::stalls(),
        "strict" => Script::fails(400, strict()),
        _ => Script::says("Hello from the other side").pace(Duration::from_millis(1)),
    }
}

fn strict() -> Value {
    json!({"error": {"message": "Invalid schema", "type": "invalid_request_error", "param": "tools", "code": "invalid_value"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_sdk_is_served() {
    let python = std::env::var("TURNPIKE_TEST_PYTHON")
        .expect("TURNPIKE_TEST_PYTHON names a Python with tests/clients/requirements.txt; hint: `tests/run` makes one");
    let (upstream, off) = (Upstream::start().await, Upstream::start().await);
    let gate = Gate::closed();
    upstream.choose(move |request| scripted(request, &gate));
    let mut setup = Setup::new()
        .backend("one", &upstream.base_url())
        .backend_with("off", &off.base_url(), "provider: openai, off: maintenance")
        .team("fenced", "sk-fenced", "{may_use: [good]}")
        .team("brisk", "sk-brisk", "{limits: {concurrent: 1}}")
        .team("rare", "sk-rare", "{limits: {tokens: 5/month}}")
        .team("poor", "sk-poor", "{budgets: [{name: month, limit: 0.000001 USD, per: month}]}")
        .team("short", "sk-short", "{budgets: [{name: month, limit: 0.0065 USD, per: month}]}");
    for name in ["good", "tools", "json", "endless", "long", "cut", "broken", "strict"] {
        setup = setup.model(name, "one", name);
    }
    let setup =
        setup.model_with("silent", "one", "silent", "speed: {first_token: 1ms, per_token: 1ms}, expected_output: 5");
    let gateway = setup.start().await;
    let mut pytest = std::process::Command::new(python);
    pytest
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/clients"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TURNPIKE_BASE_URL", gateway.base_url())
        .env("TURNPIKE_API_KEY", KEY);
    let output = tokio::task::spawn_blocking(move || pytest.output()).await.unwrap().unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the SDK's side failed");
    upstream.until(|tally| tally.hung_up >= 1 && tally.open == 0).await;
    assert_eq!(off.tally().requests, 0);
}
