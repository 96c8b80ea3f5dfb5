// The one list of what may stand in a source without being asked for: keys that change nothing of what a model computes from tokens, some of them only
// with the value that switches them off, and tensors that are no part of it.
#include <string_view>

#include "converter/read/facts.h"

namespace runnel::convert {
namespace {

struct HarmlessKey {
  std::string_view key;     // a * at the beginning or the end stands for any text
  std::string_view values = {};  // as JSON, separated by |; empty: any value
};

constexpr HarmlessKey kHarmlessKeys[] = {
    // Names, versions, provenance.
    {"_name_or_path"}, {"name_or_path"}, {"architectures"}, {"auto_map"}, {"custom_pipelines"}, {"transformers_version"}, {"*_version"},
    {"transformers.js_config"}, {"license"}, {"language"}, {"tokenizer_class"}, {"tokenizer_type"}, {"model_type"}, {"is_llama_config"},
    {"unsloth_fixed"}, {"quantization_config"}, {"base_model*"}, {"_commit_hash"}, {"model_name"},
    // Types of stored numbers and of what is computed with.
    {"dtype"}, {"torch_dtype"}, {"use_bfloat16"}, {"tf_legacy_loss"}, {"torchscript"}, {"residual_in_fp32"}, {"autocast_kernel_dtype"},
    {"inference_state_dtype"}, {"mamba_ssm_cache_dtype"}, {"mamba_ssm_dtype"}, {"norm_reduction_force_float32"}, {"attention_softmax_in_fp32"},
    {"reorder_and_upcast_attn"}, {"fp32_residual_connection"}, {"rms_norm_dtype"},
    // Ids; sizes that stand in the tensors too.
    {"*_token_id"}, {"*_token_ids"}, {"*_token_index"}, {"eos_token"}, {"bos_token"}, {"pad_token"}, {"pad_token_id"}, {"vocab_size"},
    {"qk_head_dim"}, {"kv_channels"}, {"num_query_groups"}, {"model_max_length"}, {"max_sequence_length"}, {"max_seq_len"}, {"seq_length"},
    {"n_ctx"}, {"context_length"}, {"tokens_per_image"}, {"mm_tokens_per_image"},
    // Training: how weights began, what was dropped, how losses were weighed.
    {"initializer_range"}, {"initializer_factor"}, {"*_initializer_range"}, {"*init_variance_scale"}, {"*_init_scheme"}, {"*_init_floor"},
    {"init_method"}, {"init_std"}, {"rescale_prenorm_residual"}, {"emb_initializer_range"}, {"*_init_mode"}, {"mamba_reset_parameters"}, {"dt_min"},
    {"dt_max"}, {"linear_dt_min"}, {"linear_dt_max"}, {"linear_a_log_min"}, {"linear_a_log_max"}, {"time_step_scale"}, {"time_step_floor"},
    {"time_step_max"}, {"altup_coef_clip"}, {"*dropout"}, {"*dropout_prob"}, {"*_pdrop"}, {"*_dropout_*"}, {"*jitter_noise"}, {"*aux_loss*"},
    {"*router_z_loss*"}, {"*z_loss*"}, {"use_layer_wise_balance"}, {"moe_layer_freq", "1"}, {"output_router_logits"}, {"gradient_checkpointing"},
    {"pretraining_tp"}, {"hidden_dropout"}, {"ep_size"}, {"seq_aux"}, {"moe_router_bias_update_rate"},
    // What is returned and kept, how much at once, by which kernels.
    {"use_cache"}, {"use_return_dict"}, {"return_dict"}, {"return_last_states"}, {"output_attentions"}, {"output_hidden_states"},
    {"num_logits_to_keep"}, {"calc_logits_for_entire_prompt"}, {"chunk_size"}, {"mamba_chunk_size"}, {"chunk_size_feed_forward"}, {"block_size"},
    {"max_inference_chunksize"}, {"use_mamba_kernels"}, {"use_mambapy"}, {"use_associative_scan"}, {"use_mem_eff_path"}, {"chunkwise_kernel"},
    {"sequence_kernel"}, {"step_kernel"}, {"mode"}, {"attn_mode"}, {"attn_implementation"}, {"_attn_implementation*"}, {"use_flash_attn*"},
    {"use_flash_attention*"}, {"flash_attn*"}, {"fuse_*"}, {"use_l2warp"}, {"mom_backend"}, {"capacity"}, {"use_fused_*"}, {"use_kernels"},
    {"moe_shared_expert_overlap"}, {"cache_implementation"}, {"experts_implementation"}, {"_experts_implementation*"}, {"use_deterministic_attn"},
    {"torch_compile"},
    // Generation as older releases of transformers put it beside the model.
    {"max_length"}, {"min_length"}, {"max_new_tokens"}, {"do_sample"}, {"temperature"}, {"top_k"}, {"top_p"}, {"typical_p"}, {"*_penalty"},
    {"num_beam*"}, {"early_stopping"}, {"no_repeat_ngram_size"}, {"encoder_no_repeat_ngram_size"}, {"bad_words_ids"}, {"num_return_sequences"},
    {"output_scores"}, {"return_dict_in_generate"}, {"remove_invalid_values"}, {"suppress_tokens"}, {"begin_suppress_tokens"}, {"prefix"},
    // Heads for other tasks, encoders and decoders beside the model.
    {"id2label"}, {"label2id"}, {"*num_labels"}, {"problem_type"}, {"finetuning_task"}, {"task_specific_params"}, {"summary_*"},
    {"is_encoder_decoder", "false"}, {"is_decoder"}, {"add_cross_attention", "false"}, {"cross_attention_hidden_size"},
    {"tie_encoder_decoder", "false"}, {"pruned_heads", "{}"}, {"is_causal", "true"}, {"attention.causal", "true|1"},
    // Layers that guess further tokens, which are left out.
    {"num_nextn_predict_layers"}, {"nextn_predict_layers"}, {"mtp_*"}, {"num_mtp_*"},
    // Parts for pictures and sound, which are left out; positions on their axes, which are the same for text.
    {"vision_*"}, {"audio_*"}, {"image_*"}, {"video_*"}, {"mm_*"}, {"projector_hidden_act"}, {"multimodal_projector_*"}, {"spatial_merge_size"},
    {"language_model_only"}, {"mrope_section"}, {"mrope_interleaved"}, {"rope.dimension_sections"}, {"use_mrope"}, {"position_id_per_seconds"},
    // Options that say that something is as it is where nothing is said.
    {"use_bias", "false"}, {"bias", "false"}, {"attention_bias", "false"}, {"mlp_bias", "false"}, {"qkv_bias", "false"}, {"use_qkv_bias", "false"},
    {"use_sliding_window", "false"}, {"use_alibi", "false"}, {"alibi", "false"}, {"rope_interleaved", "false"}, {"qk_layernorm", "false"},
    {"use_qk_norm", "false"}, {"qk_norm", "false"}, {"sliding_window_pattern", "1"}, {"attn_logit_softcapping", "0"},
    {"final_logit_softcapping", "0"}, {"parallel_attn", "false"}, {"use_parallel_residual", "false"}, {"logit_scale", "1"},
    {"partial_rotary_factor", "1"}, {"rotary_pct", "1"}, {"embedding_multiplier", "1"}, {"residual_multiplier", "1"}, {"logits_scaling", "1"},
    {"routed_scaling_factor", "1"}, {"clip_qkv", "0"}, {"use_bidirectional_attention", "false"},
    {"apply_residual_connection_post_layernorm", "false"}, {"num_experts", "0"}, {"num_local_experts", "0"}, {"use_moe", "false"},
    {"attention_out_bias", "false"}, {"mamba_proj_bias", "false"}, {"full_attn_mod", "1"}, {"interpolate_factor", "1"},
    {"normalization_function", "\"rmsnorm\""}, {"lm_head_bias", "false"}, {"mlp_only_layers", "[]"}, {"position_embedding_type", "\"rope\""},
    {"hidden_size_per_layer_input", "0"}, {"num_kv_shared_layers", "0"}, {"use_long_context", "false"}, {"max_window_layers"}, {"factor", "1"},
    {"attention_factor", "1"}, {"truncate", "true"}, {"finetuned"}, {"original_max_position_embeddings"},
    // Keys of a GGUF that repeat what the tensors say, or are for other programs.
    {"token_shift_count"}, {"tensor_data_layout"}, {"attention.head_count", "0"}, {"attention.head_count_kv", "0"}, {"feed_forward_length", "0"},
    {"dense_*"}, {"pooling_type"}, {"time_mix_extra_dim"}, {"time_decay_extra_dim"}, {"attention.decay_lora_rank"}, {"attention.iclr_lora_rank"},
    {"attention.value_residual_mix_lora_rank"}, {"attention.gate_lora_rank"}, {"expert_count", "0"}, {"expert_gating_func", "1"},
    {"rope.scaling.original_context_length"}, {"expert_used_count", "0"}, {"rope.scaling.finetuned"}, {"size_label"}, {"basename"}, {"finetune"},
    {"description"}, {"organization"}, {"author"}, {"url"}, {"source.*"},
};

bool fits(std::string_view pattern, std::string_view key) {
  const bool any_begin = pattern.starts_with('*'), any_end = pattern.ends_with('*');
  const std::string_view text = pattern.substr(any_begin, pattern.size() - any_begin - any_end);
  if (any_begin && any_end) return key.find(text) != key.npos;
  return any_begin ? key.ends_with(text) : any_end ? key.starts_with(text) : key == text;
}

}  // namespace

bool is_harmless(const std::string& key, const Json& value) {
  for (const HarmlessKey& h : kHarmlessKeys) {
    if (!fits(h.key, key)) continue;
    if (h.values.empty()) return true;
    for (size_t begin = 0, end; begin <= h.values.size(); begin = end + 1) {
      end = std::min(h.values.find('|', begin), h.values.size());
      if (Json::parse(h.values.substr(begin, end - begin)) == value) return true;
    }
  }
  return false;
}

void pass_over_harmless_tensors(Checkpoint& c) {
  c.leave_out({"vision_tower.", "vision_model.", "visual.", "multi_modal_projector.", "embed_vision.", "vision_embedder."}, "the vision tower");
  c.leave_out({"audio_tower.", "embed_audio."}, "the audio tower");
  c.leave_out({"mtp."}, "what guesses further tokens");
  for (const char* constant : {"rotary_emb.", "position_ids"}) c.ignore_containing(constant);
}

}  // namespace runnel::convert
