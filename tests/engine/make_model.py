"""Writes a tiny llama model with random weights as GGUF: a real engine's food, in half a megabyte.

Usage: make_model.py PATH [LAYERS]. More layers make a slower model (2 unless stated). The weights come from a fixed
seed, so every run writes the same file.
"""

import sys

import gguf
import numpy as np

WIDTH, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 64, 4, 2, 128, 4096
WORDS = [" the", " a", " of", " and", " to", " is", " in", " it", "ing"]
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def vocabulary():
    """Tokens with scores and types as a SentencePiece vocabulary has them: specials, bytes, ASCII, some words."""
    specials = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL), ("</s>", gguf.TokenType.CONTROL)]
    tokens = [(text, 0.0, kind) for text, kind in specials]
    tokens += [(f"<0x{byte:02X}>", 0.0, gguf.TokenType.BYTE) for byte in range(256)]
    tokens += [(chr(code).replace(" ", "▁"), -10.0, gguf.TokenType.NORMAL) for code in range(32, 127)]
    tokens += [(word.replace(" ", "▁"), -1.0, gguf.TokenType.NORMAL) for word in WORDS]
    return tokens


def main(path, layers):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)

    tokens = vocabulary()
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)

    random = np.random.default_rng(7)

    def add(name, *shape):
        writer.add_tensor(name, random.normal(0, 0.08, shape).astype(np.float32))

    kv_width = WIDTH // HEADS * KV_HEADS
    add("token_embd.weight", len(tokens), WIDTH)
    for layer in range(layers):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{norm}.weight", np.ones(WIDTH, dtype=np.float32))
        add(f"{block}.attn_q.weight", WIDTH, WIDTH)
        add(f"{block}.attn_k.weight", kv_width, WIDTH)
        add(f"{block}.attn_v.weight", kv_width, WIDTH)
        add(f"{block}.attn_output.weight", WIDTH, WIDTH)
        add(f"{block}.ffn_gate.weight", FEED_FORWARD, WIDTH)
        add(f"{block}.ffn_up.weight", FEED_FORWARD, WIDTH)
        add(f"{block}.ffn_down.weight", WIDTH, FEED_FORWARD)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    add("output.weight", len(tokens), WIDTH)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2)
