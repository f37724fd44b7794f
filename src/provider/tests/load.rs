//! What engines tell of their own load.

use super::*;

fn load(name: &str, path: &str, page: &str) -> Option<EngineLoad> {
    provider(name).load(path, page.as_bytes())
}

fn told(running: u64, waiting: u64, queue: u64, cache_used_ppm: Option<u64>) -> Option<EngineLoad> {
    Some(EngineLoad { running, waiting, queue, cache_used_ppm })
}

#[test]
fn engines_are_understood_old_and_new() {
    let v1 = "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 12.0\n\
        vllm:num_requests_running{engine=\"1\",model_name=\"m\"} 8.0\n\
        vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 3.0\n\
        vllm:num_requests_waiting{engine=\"1\",model_name=\"m\"} 4.0\n\
        vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 2.0\n\
        vllm:num_requests_waiting_by_reason{engine=\"1\",reason=\"capacity\"} 1.0\n\
        vllm:num_requests_waiting_by_reason{engine=\"1\",reason=\"deferred\"} 4.0\n\
        vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.5\n\
        vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"m\"} 0.75\n";
    let v0 = "vllm:num_requests_running{model_name=\"m\"} 2.0\nvllm:num_requests_waiting{model_name=\"m\"} 1.0\n\
        vllm:num_requests_swapped{model_name=\"m\"} 3.0\nvllm:gpu_cache_usage_perc{model_name=\"m\"} 0.125\n";
    let sglang = "sglang:num_running_reqs{engine_type=\"unified\",model_name=\"m\",tp_rank=\"0\",dp_rank=\"0\"} 5.0\n\
        sglang:num_running_reqs{engine_type=\"unified\",model_name=\"m\",tp_rank=\"1\",dp_rank=\"0\"} 5.0\n\
        sglang:num_running_reqs{engine_type=\"unified\",model_name=\"m\",tp_rank=\"0\",dp_rank=\"1\"} 2.0\n\
        sglang:num_queue_reqs{model_name=\"m\",tp_rank=\"0\"} 1.0\n\
        sglang:num_grammar_queue_reqs{model_name=\"m\",tp_rank=\"0\"} 2.0\n\
        sglang:token_usage{model_name=\"m\",tp_rank=\"0\"} 0.28\n";
    let plain = "sglang:num_running_reqs{model_name=\"m\"} 162\nsglang:num_queue_reqs{model_name=\"m\"} 2826\n";
    let llama = "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 3\n\
        llamacpp:requests_deferred 7\n";
    let slots = "[{\"id\":0,\"is_processing\":true},{\"id\":1,\"is_processing\":false},{\"id\":2,\"state\":1}]";
    let tgi = "tgi_batch_current_size 6\ntgi_queue_size 2\ntgi_batch_current_max_tokens 900\n";
    let cases = [
        ("vllm", "/metrics", v1, told(20, 7, 3, Some(750_000))),
        ("vllm", "/metrics", v0, told(2, 4, 4, Some(125_000))),
        ("sglang", "/metrics", sglang, told(7, 3, 1, Some(280_000))),
        ("sglang", "/metrics", plain, told(162, 2826, 2826, None)),
        ("llamacpp", "/metrics", llama, told(3, 7, 7, None)),
        ("llamacpp", "/slots", slots, told(2, 0, 0, None)),
        ("llamacpp", "/slots", "{\"error\":{}}", None),
        ("tgi", "/metrics", tgi, told(6, 2, 2, None)),
        ("tgi", "/metrics", "tgi_queue_size 0\n", told(0, 0, 0, None)),
        ("ollama", "/api/ps", "{\"models\":[]}", None),
    ];
    for (name, path, page, expected) in cases {
        assert_eq!(load(name, path, page), expected, "{name} {path}");
        let underscored =
            page.replace("vllm:", "vllm_").replace("sglang:", "sglang_").replace("llamacpp:", "llamacpp_");
        assert_eq!(load(name, path, &underscored), expected, "{name} {path}, underscored");
    }
    for name in ["vllm", "sglang", "llamacpp", "tgi"] {
        assert_eq!(load(name, "/metrics", ""), None, "{name}");
    }
}

#[test]
fn where_engines_are_asked() {
    let cases = [
        ("vllm", "/health", &["/metrics"][..]),
        ("sglang", "/ready", &["/metrics"]),
        ("llamacpp", "/health", &["/metrics", "/slots"]),
        ("tgi", "/health", &["/metrics"]),
        ("ollama", "/api/version", &[]),
    ];
    for (name, ready, load) in cases {
        assert_eq!((provider(name).ready_path(), provider(name).load_paths()), (Some(ready), load), "{name}");
    }
    assert!(TABLE.iter().filter(|provider| !provider.self_hosted()).all(|provider| provider.ready_path().is_none()));
    let endpoint = normalise(provider("vllm"), "http://10.0.0.11:8000/v1?key=1").unwrap();
    assert_eq!(provider("vllm").beside(&endpoint, "/health").to_string(), "http://10.0.0.11:8000/health");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_page_brings_the_reader_down(page in "((vllm:num_requests_(running|waiting)|tgi_queue_size|x)[{}a-z=\",0-9 .eE+-]{0,30}\n){0,20}") {
        for provider in TABLE {
            for path in provider.load_paths() {
                let _ = provider.load(path, page.as_bytes());
            }
        }
    }
}
