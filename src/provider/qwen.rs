//! Alibaba Cloud's DashScope (Model Studio) in its OpenAI-compatible mode.

use super::Provider;

/// DashScope.
#[derive(Debug)]
pub struct Qwen;

/// The sites and their base URLs; a key works at its own site only. The first is the usual one.
const SITES: [(&str, &str); 4] = [
    ("intl", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"),
    ("cn", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
    ("us", "https://dashscope-us.aliyuncs.com/compatible-mode/v1"),
    ("hk", "https://cn-hongkong.dashscope.aliyuncs.com/compatible-mode/v1"),
];

impl Provider for Qwen {
    fn name(&self) -> &'static str {
        "qwen"
    }

    fn base_url(&self, region: Option<&str>) -> Option<&'static str> {
        let region = region.unwrap_or(SITES[0].0);
        SITES.iter().find(|(site, _)| *site == region).map(|(_, url)| *url)
    }

    fn regions(&self) -> &'static [&'static str] {
        &["intl", "cn", "us", "hk"]
    }

    fn key_variable(&self) -> Option<&'static str> {
        Some("DASHSCOPE_API_KEY")
    }
}
