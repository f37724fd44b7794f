//! Bills in the forms in which vendors export them, and books beside them.

use super::*;

fn line<'i>(invoice: &'i Invoice, day: &str, model: &str) -> &'i Told {
    let found = invoice.lines.get(&(day.to_owned(), model.to_owned()));
    found.unwrap_or_else(|| panic!("{day} {model} is not among {:?}", invoice.lines.keys()))
}

fn tokens(input: u64, cached: u64, output: u64, requests: u64) -> Told {
    let (input, cached, output, requests) = (Some(input), Some(cached), Some(output), Some(requests));
    Told { input, cached, output, requests, ..Told::default() }
}

fn amount(currency: &str, nano: i128) -> Told {
    Told { amounts: [(currency.to_owned(), nano)].into(), ..Told::default() }
}

#[test]
fn openai_exports_usage_by_model_and_key() {
    let invoice = read(
        "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,\
         service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens\n\
         1759622400,1759708800,2025-10-05T00:00:00+00:00,2025-10-06T00:00:00+00:00,p,10.0,u,k,gpt-4o-2024-08-06,FALSE,\
         default,59200.0,10646.0,5760.0,53440.0\n\
         1759622400,1759708800,2025-10-05T00:00:00+00:00,2025-10-06T00:00:00+00:00,p,1.0,u,k2,gpt-4o-2024-08-06,FALSE,\
         default,800.0,4.0,0.0,800.0\n\
         1759708800,1759795200,2025-10-06T00:00:00+00:00,2025-10-07T00:00:00+00:00,,,,,,,,,,,\n",
    )
    .unwrap();
    assert_eq!((invoice.shape, invoice.lines.len()), (Shape::OpenaiUsage, 1));
    assert_eq!(*line(&invoice, "2025-10-05", "gpt-4o-2024-08-06"), tokens(60_000, 5760, 10_650, 11));
}

#[test]
fn openai_exports_costs_by_line_item_or_by_day() {
    let head = "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id\n";
    let day = "1759622400,1759708800,2025-10-05T00:00:00+00:00,2025-10-06T00:00:00+00:00";
    let by_item = format!(
        "{head}{day},0.8900000000000000,usd,\"gpt-4o-2024-08-06, input\",p\n\
         {day},0.0058740000000000,usd,\"gpt-4o-2024-08-06, output\",p\n"
    );
    let invoice = read(&by_item).unwrap();
    assert_eq!(invoice.shape, Shape::OpenaiCosts);
    assert_eq!(*line(&invoice, "2025-10-05", "gpt-4o-2024-08-06"), amount("USD", 895_874_000));
    let by_day = read(&format!("{head}{day},0.5,usd,,\n{day},,,,\n")).unwrap();
    assert_eq!(*line(&by_day, "2025-10-05", ""), amount("USD", 500_000_000));
}

#[test]
fn deepseek_exports_a_row_for_each_kind_of_tokens() {
    let rows = "\u{feff}user_id,utc_date,model,api_key_name,api_key,type,price,amount\r\n\
         u,20260725,deepseek-v4-pro,\"Team, Primary\",sk-masked,input_cache_hit_tokens,0.000000025,1000\r\n\
         u,20260725,deepseek-v4-pro,\"Team, Primary\",sk-masked,input_cache_miss_tokens,0.000003,300\r\n\
         u,20260725,deepseek-v4-pro,\"Team, Primary\",sk-masked,output_tokens,0.000006,200\r\n\
         u,20260725,deepseek-v4-pro,\"Team, Primary\",sk-masked,request_count,,3\r\n";
    let invoice = read(rows).unwrap();
    assert_eq!(invoice.shape, Shape::DeepseekAmount);
    assert_eq!(*line(&invoice, "2026-07-25", "deepseek-v4-pro"), tokens(1300, 1000, 200, 3));
    assert!(!format!("{invoice:?}").contains("sk-masked"));
}

#[test]
fn deepseek_exports_costs_under_either_sign_and_either_date() {
    let old = "user_id,utc_date,model,wallet_type,cost,currency\nu,2026-09-11,deepseek-flash,Paid,-1.44,CNY\n\
         u,2026-09-11,deepseek-flash,Granted,-0.06,CNY\n";
    assert_eq!(*line(&read(old).unwrap(), "2026-09-11", "deepseek-flash"), amount("CNY", 1_500_000_000));
    let new = "user_id,start_time_iso,end_time_iso,model,wallet_type,cost,currency\n\
         u,2026-09-11T00:00:00Z,2026-09-12T00:00:00Z,deepseek-flash,paid,1.5,CNY\n";
    assert_eq!(read(new).unwrap().lines, read(old).unwrap().lines);
}

#[test]
fn dashscope_names_model_and_kind_in_the_id_of_an_instance() {
    let chinese = "账单日期,产品,实例ID,用量,用量单位,币种,应付金额\n\
         2025-12-20,百炼,12345;llm-xxx;qwen-max;input_token;app,2000,千Token,CNY,4.8\n\
         2025-12-20,百炼,12345;llm-xxx;qwen-max;output_token;app,0.5,千Token,CNY,0.0048\n\
         2025-12-20,对象存储,bucket-1,1,GB,CNY,0.12\n";
    let invoice = read(chinese).unwrap();
    assert_eq!((invoice.shape, invoice.lines.len()), (Shape::Dashscope, 1));
    let told = line(&invoice, "2025-12-20", "qwen-max");
    assert_eq!((told.input, told.output), (Some(2_000_000), Some(500)));
    assert_eq!(told.amounts["CNY"], 4_804_800_000);
    let english = "Billing Date,Instance ID,Usage,Usage Unit,Currency,Amount After Price Reduction\n\
         2024-10-02,text_token;llm-xxx;qwen-max;output_token;app,7,1K tokens,USD,0.042\n";
    assert_eq!(line(&read(english).unwrap(), "2024-10-02", "qwen-max").output, Some(7000));
}

#[test]
fn anybody_may_write_the_plain_form() {
    let invoice = read(
        "date,model,input_tokens,cached_input_tokens,output_tokens,amount,currency\n2026-11-01,m,10,4,2,0.5,EUR\n",
    );
    let told = invoice.unwrap().lines.remove(&("2026-11-01".into(), "m".into())).unwrap();
    assert_eq!((told.input, told.cached, told.output, told.requests), (Some(10), Some(4), Some(2), None));
    assert_eq!(told.amounts["EUR"], 500_000_000);
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    assert_eq!(read(""), Err(InvoiceError::Empty));
    assert!(matches!(read("colour,size\n1,2\n"), Err(InvoiceError::Unknown(_))));
    let wrong = |text: &str| read(text).unwrap_err().to_string();
    assert_eq!(wrong("date,amount\n2026-11-01,1\n2026-11-02,much\n"), "line 3: `amount` is `much`, not an amount");
    assert_eq!(wrong("date,amount\nfirst,1\n"), "line 2: `date` is `first`, not a day");
    assert_eq!(wrong("date,input_tokens\n2026-11-01,1.5\n"), "line 2: `input_tokens` is `1.5`, not a whole number");
}

fn books() -> BTreeMap<Key, Told> {
    let told = |input, nano| Told { amounts: [("USD".to_owned(), nano)].into(), ..tokens(input, 0, 10, 1) };
    [
        (("2026-11-01".to_owned(), "a".to_owned()), told(1000, 5_000_000)),
        (("2026-11-01".to_owned(), "b".to_owned()), told(2000, 7_000_000)),
        (("2026-11-30".to_owned(), "a".to_owned()), told(1, 1)),
    ]
    .into()
}

#[test]
fn only_what_a_bill_tells_is_compared_and_only_its_days() {
    let bill = read("date,model,input_tokens,amount\n2026-11-01,a,1000,0.005\n2026-11-01,b,2000,0.007\n").unwrap();
    let compared = compare(&books(), &bill, Tolerance::default());
    assert_eq!(compared.len(), 2);
    assert!(compared.iter().all(Compared::agrees), "{compared:?}");
    let whats: Vec<&str> = compared[0].pairs.iter().map(|pair| pair.what.as_str()).collect();
    assert_eq!(whats, ["input", "USD"]);
}

#[test]
fn a_model_that_one_of_both_has_not_differs() {
    let bill = read("date,model,amount\n2026-11-01,a,0.005\n2026-11-01,c,0.001\n").unwrap();
    let apart: Vec<_> =
        compare(&books(), &bill, Tolerance::default()).into_iter().filter(|line| !line.agrees()).collect();
    let told: Vec<_> =
        apart.iter().map(|line| (line.model.as_str(), line.pairs[0].books, line.pairs[0].bill)).collect();
    assert_eq!(told, [("b", 7_000_000, 0), ("c", 0, 1_000_000)]);
}

#[test]
fn a_bill_by_days_is_laid_beside_the_sums() {
    let bill = read("date,amount,currency\n2026-11-01,0.012,USD\n").unwrap();
    let compared = compare(&books(), &bill, Tolerance::default());
    assert_eq!((compared.len(), compared[0].agrees(), compared[0].pairs[0].books), (1, true, 12_000_000));
}

#[test]
fn a_tolerance_is_a_share_of_the_bill_or_an_amount() {
    let bill = read("date,model,amount\n2026-11-01,a,0.00505\n2026-11-01,b,0.007\n").unwrap();
    let agrees = |ppm, nano| compare(&books(), &bill, Tolerance { ppm, nano }).iter().all(Compared::agrees);
    assert!(!agrees(0, 0) && !agrees(9_000, 49_999));
    assert!(agrees(10_000, 0) && agrees(0, 50_000));
}

#[test]
fn a_dated_name_on_the_bill_is_the_undated_one_of_the_books() {
    let bill = read("date,model,amount\n2026-11-01,a-2026-08-06,0.005\n2026-11-01,b-0731,0.007\n").unwrap();
    assert!(compare(&books(), &bill, Tolerance::default()).iter().all(Compared::agrees));
}
