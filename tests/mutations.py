"""Plants known faults, one at a time, in copies of the project; the test named beside each must fail.

`make test-mutations` runs this; words after `python tests/mutations.py` pick the faults whose description, file or test
holds one of them. An error is: a fault that no test catches, a test that fails without any fault, and a line of this
list that fits the project no more.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "simulation",
    "training",
    "serving",
    "components",
    "pipelines",
    "infra",
    "tests",
    "pyproject.toml",
    "README.md",
)
LANES = 2
"""Copies that are tested at the same time."""
PASSED, FAILED = 0, 1
"""Exit codes of pytest; every other one says that the tests could not be run."""


class Fault(NamedTuple):
    """Something that somebody got wrong."""

    what: str
    file: str
    right: str
    wrong: str
    test: str


FAULTS = (
    # ---- stores and corpora
    Fault(
        "skip the conditional write to a bucket",
        "simulation/bucket.py",
        'Body=data, IfNoneMatch="*")',
        "Body=data)",
        "tests/simulation/test_storage.py::test_create_is_one_conditional_put",
    ),
    Fault(
        "a name appears before its bytes are durable",
        "simulation/folder.py",
        "        os.fsync(file.fileno())\n",
        "",
        "tests/simulation/test_storage.py::test_a_name_appears_only_over_durable_bytes",
    ),
    Fault(
        "overwrite a shard that was committed with other values",
        "simulation/shards.py",
        "if not storage.create(commit_address, data) and",
        "if storage.replace(commit_address, data) and",
        "tests/simulation/test_shards.py::test_other_values_for_the_same_shard_are_not_reproducible",
    ),
    Fault(
        "tars carry the time of writing",
        "simulation/shards.py",
        "member.mtime = 0",
        "member.mtime = __import__('time').time_ns() % 10**9",
        "tests/simulation/test_shards.py::test_members_carry_no_circumstance",
    ),
    Fault(
        "size enters the plan digest",
        "simulation/scenario.py",
        'exclude={"size", "seed", *sources}',
        'exclude={"seed", *sources}',
        "tests/simulation/test_draw.py::test_the_plan_digest_ignores_size_and_place",
    ),
    Fault(
        "rows that cannot be rendered are dropped in silence",
        "simulation/build.py",
        "quarantined.append(QuarantinedRow(id=row.id, reason=str(error)))",
        "del error",
        "tests/simulation/test_build.py::test_rows_that_fail_are_quarantined_with_their_reason",
    ),
    # ---- drawing and rendering
    Fault(
        "seed by worker",
        "simulation/chance.py",
        "canonical_json(key)).digest()",
        "canonical_json((*key, __import__('os').getpid()))).digest()",
        "tests/simulation/test_render.py::test_output_does_not_change_without_a_new_render_version",
    ),
    Fault(
        "one generator for all fields of an operation",
        "simulation/chance.py",
        "return generator(*self._row, self._operation, field)",
        "self.__dict__.setdefault('one', generator(*self._row, self._operation)); return self.one",
        "tests/simulation/test_degradations.py::test_changing_one_range_shifts_no_other_draw",
    ),
    Fault(
        "the common gain reaches the noisy side only",
        "simulation/render.py",
        "clean = audio.quantise(mixture.clean * np.float32(gain), bit_depth)",
        "clean = audio.quantise(mixture.clean, bit_depth)",
        "tests/simulation/test_render.py::test_no_peak_passes_the_ceiling_and_the_gain_is_common",
    ),
    Fault(
        "the reverberant side comes half a millisecond late",
        "simulation/degradations/reverb.py",
        "each[rir.onset : rir.onset + len(samples)]",
        "each[rir.onset - 4 : rir.onset - 4 + len(samples)]",
        "tests/simulation/test_degradations.py::test_every_target_is_aligned_with_the_dry_speech",
    ),
    Fault(
        "leak a test speaker into train",
        "simulation/corpora/sample/manifest.csv",
        ",test,",
        ",train,",
        "tests/simulation/test_sample_corpus.py::test_splits_share_no_speaker_no_noise_recording_and_no_room",
    ),
    Fault(
        "a group in two splits is let through",
        "simulation/sources/scanning.py",
        "    refuse_shared_groups(kind, where, recordings)\n    return",
        "    return",
        "tests/simulation/test_sources.py::test_a_group_in_two_splits_is_refused_by_name",
    ),
    # ---- training
    Fault(
        "workers' shares of a batch weigh the same however large they are",
        "training/steps.py",
        "found[-1].total.sum() * (seat.world / recipe.batch_size)",
        "found[-1].total.mean()",
        "tests/training/test_workers.py::test_several_workers_learn_what_one_learns",
    ),
    Fault(
        "a resumed run starts with a new optimiser",
        "training/descent.py",
        "for name, part in state.items()",
        "for name, part in list(state.items())[1:]",
        "tests/training/test_loop.py::test_a_resumed_run_is_the_undisturbed_run",
    ),
    Fault(
        "weights are loaded without looking at their digest",
        "training/checkpoint.py",
        "    _must_be(hashlib.sha256(weights).hexdigest(), record, address)\n",
        "",
        "tests/training/test_checkpoint.py::test_changed_weights_are_refused",
    ),
    Fault(
        "replayed steps are logged again",
        "training/tracking/runs.py",
        " if step > self._last(run_id, name)]",
        "]",
        "tests/training/test_tracking.py::test_a_step_is_logged_once_even_by_another_process",
    ),
    Fault(
        "rows that a dying worker posted are logged twice",
        "training/watch.py",
        'if row["step"] > self.logged:',
        'if row["step"] > before:',
        "tests/training/test_watch.py::test_a_worker_that_dies_before_its_commit_logs_nothing_twice",
    ),
    # ---- judging
    Fault(
        "swap clean and enhanced in a metric",
        "training/metrics/pesq.py",
        "itu_pesq(sample_rate, clean, enhanced, band)",
        "itu_pesq(sample_rate, enhanced, clean, band)",
        "tests/training/test_metrics.py::test_values_at_5_db_are_the_reference_values",
    ),
    Fault(
        "what could not be scored counts as 0 in the mean",
        "training/intervals.py",
        "        scored = np.isfinite(values)\n",
        "        values = np.nan_to_num(values)\n        scored = np.isfinite(values)\n",
        "tests/training/test_intervals.py::test_failed_utterances_are_left_out_of_the_mean",
    ),
    Fault(
        "utterances are resampled as if they were independent",
        "training/intervals.py",
        "self.labels = _ways(clusters)",
        "self.labels = _ways([[str(index) for index in range(len(clusters[0]))]])",
        "tests/training/test_intervals.py::test_the_interval_covers_where_single_utterances_would_mislead",
    ),
    Fault(
        "the gate takes missing scores for a pass",
        "serving/verdict.py",
        "            if failed:\n",
        "            if False:\n",
        "tests/serving/test_verdict.py::test_whatever_is_missing_is_a_no",
    ),
    Fault(
        "several candidates are judged as if each were alone",
        "serving/verdict.py",
        "bench.policy.alpha / len(left)",
        "bench.policy.alpha",
        "tests/serving/test_verdict.py::test_more_candidates_need_stronger_evidence",
    ),
    Fault(
        "a limit forgives what has no value",
        "serving/limits.py",
        "(~np.isfinite(values) | (over > 0))",
        "(over > 0)",
        "tests/serving/test_gate_planted.py::test_harm_is_blocked_for_its_own_reason",
    ),
    Fault(
        "a limit on a slice that was not scored counts as kept",
        "serving/limits.py",
        "met=n > 0 and outside",
        "met=outside",
        "tests/serving/test_gate_planted.py::"
        "test_rows_to_do_no_harm_on_count_in_limits_that_name_them_and_nowhere_else",
    ),
    Fault(
        "limits judge the mean over sampling seeds",
        "serving/verdict.py",
        "return self.outputs[self.outputs[",
        'return averaged(self.outputs, ["planted_polarity"])[averaged(self.outputs, ["planted_polarity"])[',
        "tests/serving/test_gate_planted.py::test_one_harmful_sample_is_not_averaged_away",
    ),
    Fault(
        "one sampling seed that failed is left out of the mean",
        "training/sampling.py",
        "mean(skipna=False)",
        "mean()",
        "tests/training/test_sampling.py::test_seeds_are_averaged_and_a_failure_of_one_is_a_failure",
    ),
    Fault(
        "a fact that nobody measured is within every budget",
        "serving/limits.py",
        "met=value is not None and value <= budget.limit",
        "met=value is None or value <= budget.limit",
        "tests/serving/test_gate_planted.py::test_a_budget_that_is_exceeded_or_unknown_blocks",
    ),
    Fault(
        "policies forget that clean speech must not be muted",
        "serving/policy.py",
        '        Limit(metric="muted", highest=0.02, **clean),\n',
        "",
        "tests/serving/test_gate_on_audio.py::test_a_fault_that_an_average_hides_blocks_for_its_own_reason",
    ),
    Fault(
        "a network that hears both sides claims no latency",
        "serving/facts.py",
        "else BLOCK_S + FADE_S + CONTEXT_S",
        "else 0.0",
        "tests/serving/test_facts.py::test_latency_is_what_has_to_be_waited_for",
    ),
    Fault(
        "a promotion that was rolled back answers for the next one",
        "components/promote.py",
        'if result is None or result.outputs["champion"] == (champion.version if champion else None):',
        "if True:",
        "tests/components/test_promote.py::test_after_a_rollback_the_gate_decides_anew",
    ),
    Fault(
        "the key of a promotion does not name the champion",
        "components/promote.py",
        'update={"champion": opponent.weights_sha256 if opponent else ""}',
        'update={"champion": ""}',
        "tests/components/test_promote.py::test_the_opponent_is_part_of_the_key",
    ),
    Fault(
        "A-A swaps single utterances as if speakers did not matter",
        "serving/relabelling.py",
        'return np.where(alone, table["row"], table["speaker"]).astype(str)',
        'return np.where(True, table["row"], table["speaker"]).astype(str)',
        "tests/serving/test_relabelling.py::test_relabelled_versions_are_seldom_promoted",
    ),
    Fault(
        "STOI with its arguments swapped",
        "training/metrics/stoi.py",
        "taal_stoi(clean, enhanced, sample_rate",
        "taal_stoi(enhanced, clean, sample_rate",
        "tests/training/test_metrics.py::test_values_at_5_db_are_the_reference_values",
    ),
    Fault(
        "ESTOI that is STOI",
        "training/metrics/estoi.py",
        "extended=True",
        "extended=False",
        "tests/training/test_metrics.py::test_values_follow_the_reference_over_snr",
    ),
    Fault(
        "SI-SDR that projects the clean on the enhanced",
        "training/metrics/si_sdr.py",
        "/ (clean @ clean) * clean",
        "/ (enhanced @ enhanced) * clean",
        "tests/training/test_metrics.py::test_si_sdr_of_four_samples_can_be_checked_by_hand",
    ),
    Fault(
        "SI-SIR that takes the noisy for the noise",
        "training/metrics/si_sir.py",
        "noise = noisy - clean",
        "noise = noisy",
        "tests/training/test_metrics.py::test_what_is_wrong_splits_into_noise_and_artefacts",
    ),
    Fault(
        "composites at the scale of 16 bit integers",
        "training/metrics/spectral_slope.py",
        "SCALE = 32_768",
        "SCALE = 1",
        "tests/training/test_metrics.py::test_values_at_5_db_are_the_reference_values",
    ),
    Fault(
        "composites with narrow-band PESQ",
        "training/metrics/composite.py",
        "pesq=pesq.measure(clean, enhanced, sample_rate)",
        'pesq=pesq.measure(clean, enhanced, sample_rate, "nb")',
        "tests/training/test_metrics.py::test_values_at_5_db_are_the_reference_values",
    ),
    Fault(
        "LSD of magnitudes instead of powers",
        "training/metrics/lsd.py",
        "_magnitude(waveform, fft_size, hop_size) ** 2",
        "_magnitude(waveform, fft_size, hop_size)",
        "tests/training/test_metrics.py::test_values_at_5_db_are_the_reference_values",
    ),
    Fault(
        "SRMR with another number of speech bands",
        "training/metrics/srmr.py",
        "SPEECH_BANDS = 4",
        "SPEECH_BANDS = 5",
        "tests/training/test_metrics.py::test_srmr_of_the_clean_is_the_reference_value",
    ),
    Fault(
        "phase distance without resolving the sign",
        "training/metrics/phase.py",
        "return min(distance_degrees(clean, enhanced), distance_degrees(clean, -enhanced))",
        "return distance_degrees(clean, enhanced)",
        "tests/training/test_metrics.py::test_a_flipped_sign_is_half_a_turn_until_it_is_resolved",
    ),
    Fault(
        "WOPD over the phase map alone",
        "training/metrics/phase.py",
        "if (row, column) != (1, 1):",
        "if False:",
        "tests/training/test_metrics.py::test_values_at_5_db_are_the_reference_values",
    ),
    Fault(
        "integers are scored as if full scale were 1",
        "training/metrics/base.py",
        "if peak > LARGEST_PEAK:",
        "if peak > 1e9:",
        "tests/training/test_metrics.py::test_the_float_convention_of_the_composites_is_kept",
    ),
    Fault(
        "silence gets a number instead of a reason",
        "training/metrics/base.py",
        "if peak < SILENCE_PEAK and not may_be_silent:",
        "if peak < SILENCE_PEAK and False:",
        "tests/training/test_metrics.py::test_what_cannot_be_scored_fails_with_a_reason",
    ),
    Fault(
        "enhanced and clean change places on the way to the metrics",
        "training/scoring.py",
        ".score(mixture.clean, enhanced, mixture.sample_rate, mixture.noisy)",
        ".score(enhanced, mixture.clean, mixture.sample_rate, mixture.noisy)",
        "tests/training/test_evaluate.py::test_clean_and_enhanced_reach_the_metrics_in_order",
    ),
    Fault(
        "a failed metric is scored as 0",
        "training/scoring.py",
        "failed[name] = failure.reason",
        "values[name], failed[name] = 0.0, failure.reason",
        "tests/training/test_evaluate.py::test_a_system_that_gives_silence_or_nan_fails_by_name",
    ),
    Fault(
        "scores are kept whatever the metric's version",
        "training/score_cache.py",
        'f"{metric}@{METRICS[metric].version}"',
        'f"{metric}@1"',
        "tests/training/test_score_cache.py::test_a_new_version_of_a_metric_is_computed_again",
    ),
    Fault(
        "scores are kept whatever the weights",
        "training/score_cache.py",
        '(f"@{weights}" if weights else "")',
        '""',
        "tests/training/test_score_cache.py::test_other_weights_give_other_values",
    ),
    Fault(
        "do-no-harm rows count overall",
        "training/slices.py",
        '"overall", ~harmless)',
        '"overall", harmless | True)',
        "tests/training/test_slices.py::test_harmless_rows_count_in_no_slice_but_their_own",
    ),
    Fault(
        "every sampling seed counts as an utterance",
        "training/scorecard.py",
        "    scores = averaged(scores, metrics)\n",
        "",
        "tests/training/test_evaluate.py::test_a_stochastic_system_is_scored_with_several_seeds_and_counts_once",
    ),
    Fault(
        "intervals of the scorecard forget rooms",
        "training/intervals.py",
        'WAYS = ("speaker", "noise", "room")',
        'WAYS = ("speaker", "noise")',
        "tests/training/test_evaluate.py::test_intervals_allow_for_rooms_that_utterances_share",
    ),
    Fault(
        "a minute passes the network as a whole",
        "training/blocks.py",
        "    return in_blocks(forward, samples, model.sample_rate)",
        "    return forward(samples)",
        "tests/training/test_blocks.py::test_what_fits_passes_as_a_whole_and_the_rest_in_blocks",
    ),
    Fault(
        "the page hears the best for the worst",
        "training/listening.py",
        '.sort_values(kind="stable")',
        '.sort_values(kind="stable", ascending=False)',
        "tests/training/test_report.py::test_it_shows_exactly_the_worst_and_the_best_utterances_of_the_best_learnt_system",
    ),
    Fault(
        "what the policy asks for is not scored",
        "components/evaluate.py",
        "dict.fromkeys((*STANDARD, *metrics_of(policy_for(use, policy))))",
        "dict.fromkeys(STANDARD)",
        "tests/components/test_evaluate.py::test_what_the_policy_asks_for_is_scored_beside_the_standard_metrics",
    ),
    Fault(
        "the pipeline's evaluation keeps no scores",
        "components/evaluate.py",
        "            cache=storage.join(stage.store, FOLDER),\n",
        "            cache=None,\n",
        "tests/components/test_evaluate.py::test_the_stage_scores_what_its_spec_says",
    ),
    Fault(
        "contrast stretching without its weights",
        "training/contrast.py",
        "FULL_GAIN = 0.4",
        "FULL_GAIN = 0.5",
        "tests/training/test_contrast.py::test_the_weights_of_contrast_stretching_are_the_published_ones",
    ),
    # ---- stages and promotion
    Fault(
        "a stage key forgets its inputs",
        "components/specs.py",
        "        return value.sha256\n",
        '        return ""\n',
        "tests/components/test_specs.py::test_moving_a_corpus_keeps_the_key_and_changing_it_does_not",
    ),
    Fault(
        "a stage key forgets how rendering is done",
        "components/simulate.py",
        "render_version=RENDER_VERSION",
        "render_version=1",
        "tests/components/test_specs.py::test_a_new_render_version_makes_a_new_key",
    ),
    Fault(
        "a superseded attempt commits",
        "components/stage.py",
        "    stage.check()\n    result = Result(",
        "    result = Result(",
        "tests/components/test_stage.py::test_a_superseded_attempt_commits_nothing",
    ),
    Fault(
        "a lost evaluation writes over its successor's scores",
        "components/evaluate.py",
        'storage.join(stage.folder, "scores", str(stage.attempt))',
        'storage.join(stage.folder, "scores")',
        "tests/components/test_evaluate.py::test_a_lost_attempt_leaves_the_scores_of_its_successor_alone",
    ),
    Fault(
        "the alias moves before what was deployed is verified",
        "serving/promotion.py",
        "        deployer.verify(handle, version)\n        lease.check()\n        move_alias()\n",
        "        move_alias()\n        deployer.verify(handle, version)\n        lease.check()\n",
        "tests/serving/test_promotion.py::test_the_alias_moves_only_after_what_was_deployed_has_been_verified",
    ),
    Fault(
        "a promotion whose lock was taken over goes on",
        "serving/promotion.py",
        "        lease.check()\n",
        "",
        "tests/serving/test_promotion.py::test_a_promotion_whose_lock_was_taken_over_moves_nothing",
    ),
    # ---- serving and KFP
    Fault(
        "the service answers with weights other than the registered ones",
        "serving/replica.py",
        "if found != version.weights_sha256:",
        "if False:",
        "tests/serving/test_verification.py::test_a_folder_that_now_holds_another_model_is_refused",
    ),
    Fault(
        "bad audio is answered with HTTP 500",
        "serving/wire.py",
        'return 422, "bad_audio"',
        'return 500, "internal_error"',
        "tests/serving/test_app.py::test_a_bad_request_is_answered_with_one_paragraph_of_json",
    ),
    Fault(
        "KFP tasks install packages",
        "components/steps.py",
        "install_kfp_package=False",
        "install_kfp_package=True",
        "tests/pipelines/test_pipeline.py::test_no_task_installs_anything",
    ),
    # ---- lost attempts
    Fault(
        "a writer relies on the tar of a lost attempt, which is being collected",
        "simulation/shards.py",
        "    storage.write_once(tar_address, tar)  # an older",
        "    # an older",
        "tests/simulation/test_orphans.py::test_a_writer_whose_tar_went_before_its_commit_writes_it_again",
    ),
    Fault(
        "a tar that was committed while it was removed as an orphan stays away",
        "simulation/orphans.py",
        "        storage.replace(tar, data)\n",
        "",
        "tests/simulation/test_orphans.py::test_a_tar_that_is_committed_while_it_goes_is_put_back",
    ),
    Fault(
        "an upload that is still going on counts as old",
        "simulation/bucket.py",
        "parts, max(times), upload)",
        "parts, min(times), upload)",
        "tests/simulation/test_orphans.py::test_uploads_in_parts_are_as_old_as_their_last_part",
    ),
    # ---- degradations of device and network
    Fault(
        "clipping takes the target with it",
        "simulation/degradations/clip.py",
        "noisy = mixture.noisy.clip(-ceiling, ceiling)",
        "noisy = mixture.noisy.clip(-ceiling, ceiling); mixture = replace(mixture, clean=noisy)",
        "tests/simulation/test_degradations.py::test_the_target_is_left_alone_or_moved_with_the_input",
    ),
    Fault(
        "an MP3 without lengths comes 1105 samples late",
        "simulation/degradations/codec.py",
        "late = LAME_DELAY if",
        "late = 0 if",
        "tests/simulation/test_codec.py::test_no_codec_is_late",
    ),
    Fault(
        "what a codec's resamplers are late by is left in",
        "simulation/degradations/codec.py",
        "late = lags[int(np.argmax(fits))] if any(fits) else 0",
        "late = 0",
        "tests/simulation/test_codec.py::test_no_codec_is_late",
    ),
    Fault(
        "a row is coded to other samples each time",
        "simulation/degradations/codec.py",
        "        samples,\n        sample_rate,",
        "        samples + 1e-4 * np.random.default_rng().standard_normal(len(samples)),\n        sample_rate,",
        "tests/simulation/test_codec.py::test_equal_input_gives_equal_samples_in_every_process",
    ),
    Fault(
        "bursts of lost packets overlap and run off the end",
        "simulation/degradations/packet_loss.py",
        "places + np.cumsum(lengths) - lengths",
        "np.sort((rng.random(len(lengths)) * packets).astype(int))",
        "tests/simulation/test_packet_loss.py::test_exactly_the_drawn_share_is_lost_in_separate_bursts",
    ),
    Fault(
        "fewer packets are lost than were drawn",
        "simulation/degradations/packet_loss.py",
        "round(rate * packets)",
        "int(rate * packets)",
        "tests/simulation/test_packet_loss.py::test_the_recorded_rate_is_the_lost_one",
    ),
    Fault(
        "a filter runs forwards only and shifts the input against the target",
        "simulation/degradations/effects.py",
        "forwards[::-1], sample_rate, parameters)[::-1]",
        "forwards, sample_rate, parameters)",
        "tests/simulation/test_devices.py::test_filters_of_a_device_have_no_phase",
    ),
    Fault(
        "a band limit reaches beyond its cutoff",
        "simulation/degradations/band_limit.py",
        "cheby1(order, RIPPLE_DB, cutoff_hz,",
        "cheby1(order, RIPPLE_DB, 1.2 * cutoff_hz,",
        "tests/simulation/test_band_limit.py::test_nothing_is_left_above_the_cutoff",
    ),
    Fault(
        "weights of listed values are ignored",
        "simulation/schema.py",
        "self.weights or (1.0,)",
        "(1.0,)",
        "tests/simulation/test_degradations.py::test_one_of_is_drawn_as_often_as_its_weights_say",
    ),
    Fault(
        "the parts of a degradation share one draw",
        "simulation/degradations/base.py",
        'f"{key}.{place}"',
        "key",
        "tests/simulation/test_devices.py::test_a_row_lists_the_peaks_that_happen_and_no_other",
    ),
    # ---- networks
    Fault(
        "a phase attention without its conjugate",
        "training/models/renet.py",
        "self.attended(self.query(x), self.key(x)",
        "self.attended(self.query(x), self.key(Streams(x.phase.flip(2), x.magnitude))",
        "tests/training/test_renet.py::test_the_phase_turns_with_the_input",
    ),
    Fault(
        "biases in the phase stream",
        "training/models/renet.py",
        "(1, 2), bias=not config.equivariant)",
        "(1, 2), bias=True)",
        "tests/training/test_renet.py::test_the_phase_turns_with_the_input",
    ),
    Fault(
        "each part of the phase through an activation of its own",
        "training/models/renet.py",
        "self.interacted(self.phase_norm(phase), ",
        "self.interacted(functional.silu(self.phase_norm(phase)), ",
        "tests/training/test_renet.py::test_a_flipped_sign_comes_out_flipped",
    ),
    Fault(
        "a complex product with the wrong sign",
        "training/models/equivariant.py",
        "torch.cat([self.real, -self.imaginary], dim=1)",
        "torch.cat([self.real, self.imaginary], dim=1)",
        "tests/training/test_renet.py::test_complex_layers_are_complex_products",
    ),
    Fault(
        "older maps in front of newer ones",
        "training/models/renet.py",
        "torch.cat([newest.phase, seen.phase], 2)",
        "torch.cat([seen.phase, newest.phase], 2)",
        "tests/training/test_renet.py::test_the_newest_maps_stand_in_front",
    ),
    Fault(
        "gates that start half closed",
        "training/models/renet.py",
        "-math.log(2)",
        "0.0",
        "tests/training/test_renet.py::test_every_gate_is_open_by_one_before_training",
    ),
    Fault(
        "a magnitude below zero",
        "training/models/renet.py",
        ".squeeze(1).relu()",
        ".squeeze(1)",
        "tests/training/test_renet.py::test_the_magnitude_is_not_negative_and_the_phase_is_wrapped",
    ),
    Fault(
        "a gated feed-forward that is cropped one place late",
        "training/models/equivariant.py",
        "functional.conv_transpose1d(gated, self._transposed(), padding=self.REACH)",
        "functional.conv_transpose1d(gated, self._transposed())[..., 4:][..., : z_SLPC.shape[1]]",
        "tests/training/test_renet.py::test_the_gated_feed_forward_reaches_three_places",
    ),
    Fault(
        "sub-pixels side by side instead of alternating",
        "training/models/layers.py",
        "halves.permute(0, 2, 3, 4, 1)",
        "halves.permute(0, 2, 3, 1, 4)",
        "tests/training/test_mp_senet.py::test_sub_pixels_alternate",
    ),
    Fault(
        "attention across the items of a batch",
        "training/models/layers.py",
        "x_SLC = x_SLC if self.batch_first else x_SLC.transpose(0, 1)",
        "x_SLC = x_SLC.transpose(0, 1) if self.batch_first else x_SLC",
        "tests/training/test_mp_senet.py::test_attending_along_the_first_axis_mixes_the_batch",
    ),
    Fault(
        "a dense block that looks ahead",
        "training/models/layers.py",
        "functional.pad(seen, (0, 0, 2**place, 0))",
        "functional.pad(seen, (0, 0, 0, 2**place))",
        "tests/training/test_mp_senet.py::test_convolutions_two_frames_tall_look_back_only",
    ),
    Fault(
        "a mask without a map's decoder of its own",
        "training/models/dm.py",
        "_logit(self.map_head, self._through(self.map_decoder, z_BCTF))",
        "_logit(self.map_head, trunk_BCTF)",
        "tests/training/test_dm.py::test_a_decoder_of_its_own_teaches_the_map_alone",
    ),
    Fault(
        "DM's fusion turned round",
        "training/models/dm.py",
        "omega * masked_BTF + (1 - omega) * mapped_BTF",
        "(1 - omega) * masked_BTF + omega * mapped_BTF",
        "tests/training/test_dm.py::test_without_skip_and_map_only_the_mask_is_left",
    ),
    Fault(
        "operations counted as multiply-accumulates",
        "training/counting.py",
        "operations_per_mac = 2",
        "operations_per_mac = 1",
        "tests/training/test_counting.py::test_costs_agree_with_published_ones",
    ),
    Fault(
        "run the code in a released pickle",
        "training/import_weights.py",
        "weights_only=True)\n",
        "weights_only=False)\n",
        "tests/training/test_import_weights.py::test_code_in_a_pickle_is_never_run",
    ),
    Fault(
        "leave a released tensor out",
        "training/name_maps.py",
        "if missing or unknown or len(found) < len(theirs):",
        "if missing:",
        "tests/training/test_import_weights.py::test_weights_of_another_network_are_refused",
    ),
    Fault(
        "attention to a frame that was never heard",
        "training/models/renet_causal.py",
        "(seen >= earlier - memory.frames)",
        "(seen >= 0)",
        "tests/training/test_renet_causal.py::test_attention_sees_the_window_and_no_more",
    ),
    Fault(
        "a running norm that turns up without limit",
        "training/models/renet_causal.py",
        ".clamp(max=LARGEST_GAIN)",
        "",
        "tests/training/test_renet_causal.py::test_a_running_norm_is_what_its_definition_says",
    ),
    Fault(
        "a memory that keeps one frame too few",
        "training/models/renet_causal.py",
        "memory.behind(x.phase, self.past, 3)",
        "functional.pad(x.phase, (0, 0, self.past, 0))",
        "tests/training/test_models.py::test_a_causal_network_answers_in_pieces",
    ),
    Fault(
        "let training on a plan render rows without the quantiser",
        "simulation/virtual.py",
        "mixture, measured = render(row, self.plan.scenario, self._library)",
        "mixture, measured = render(row, self.plan.scenario.model_copy(update={'bit_depth': 24}), self._library)",
        "tests/training/test_virtual_batches.py::test_batches_of_a_plan_are_those_of_the_rendered_corpus",
    ),
    Fault(
        "skip a row in quarantine in place of taking the next for it",
        "training/pieces.py",
        "for each in chain(range(number, corpus.rows), range(number)):",
        "for each in chain(range(number, -1, -1), range(corpus.rows)):",
        "tests/training/test_batches.py::test_the_next_row_stands_in_for_one_in_quarantine",
    ),
    Fault(
        "leave the size out of a virtual corpus's digest",
        "simulation/virtual.py",
        'canonical_json({"plan": self.plan_digest, "rows": self.rows})',
        'canonical_json({"plan": self.plan_digest})',
        "tests/simulation/test_virtual.py::test_nothing_but_the_plan_is_committed_and_only_once",
    ),
    Fault(
        "leave renderers behind when training is killed",
        "training/child.py",
        "        parent.join()\n        os._exit(1)\n",
        "        parent.join()\n",
        "tests/training/test_virtual_batches.py::test_the_loop_trains_on_a_plan_without_ray_and_its_processes_die_with_it",
    ),
    Fault(
        "pass over thresholds of the speech level that may solve its equation",
        "simulation/levels.py",
        "bound = np.sqrt(active_power / margin) * (1 - 1e-9)",
        "bound = np.sqrt(active_power / margin) * 1.01",
        "tests/simulation/test_levels.py::test_the_threshold_is_the_lowest_that_solves_the_equation",
    ),
    # ---- scenarios, talkers and rooms
    Fault(
        "the interfering talker may be the speaker",
        "simulation/chance.py",
        'excluded = {*apart_from, self._speaker} if kind == "speech" else apart_from',
        "excluded = apart_from",
        "tests/simulation/test_noise.py::test_the_other_talker_is_never_the_speaker",
    ),
    Fault(
        "ducking lowers the target too",
        "simulation/degradations/wind.py",
        "return replace(mixture, noisy=speech + scaled,",
        "return replace(mixture, clean=speech, noisy=speech + scaled,",
        "tests/simulation/test_noise.py::test_ducking_lowers_the_speech_under_gusts_and_not_the_target",
    ),
    Fault(
        "members of a composition are drawn with replacement",
        "simulation/composition.py",
        "[: self._drawn_count(chance)]",
        "[:1] * self._drawn_count(chance)",
        "tests/simulation/test_composition.py::test_as_many_as_drawn_happen_and_none_twice",
    ),
    Fault(
        "the turn of a member depends on its place in the list",
        "simulation/composition.py",
        'f"turn.{part.name}"',
        'f"turn.{self.of[::-1].index(part)}"',
        "tests/simulation/test_composition.py::test_a_member_that_is_added_or_changed_shifts_no_other_draw",
    ),
    Fault(
        "sources below the rate pass at 48 kHz",
        "simulation/sources/scanning.py",
        "lowest_rate = 0 if kind in narrow else sample_rate",
        "lowest_rate = 0",
        "tests/simulation/test_scenarios.py::test_scenarios_at_48_khz_refuse_sources_below_unless_asked",
    ),
    Fault(
        "the tail of a room is cut off while it can be heard",
        "simulation/room_acoustics.py",
        "DECAYED_DB = 75.0",
        "DECAYED_DB = 45.0",
        "tests/simulation/test_rooms.py::test_no_decay_is_cut_short",
    ),
    Fault(
        "the tail of a room decays too slowly",
        "simulation/room_acoustics.py",
        "10 ** (-6 * np.arange",
        "10 ** (-5 * np.arange",
        "tests/simulation/test_rooms.py::test_a_hybrid_decays_as_asked",
    ),
    Fault(
        "the onset of a bank's response is looked for, not known",
        "simulation/render.py",
        "if recording.onset is None:",
        "if True:",
        "tests/simulation/test_bank.py::test_a_bank_is_the_source_of_a_scenario",
    ),
    Fault(
        "a room of a bank is committed over another one",
        "simulation/bank.py",
        "if not storage.create(address, data) and storage.read(address) != data:",
        "if storage.replace(address, data):",
        "tests/simulation/test_bank.py::test_other_values_for_the_same_room_are_not_reproducible",
    ),
    # ---- sources, cards and pairs
    Fault(
        "believe what was measured of a file that was just written",
        "simulation/sources/remembering.py",
        "if one.stored and one.stored.modified < settled",
        "if one.stored",
        "tests/simulation/test_sources.py::test_what_was_just_written_is_not_believed",
    ),
    Fault(
        "remember a file by its name alone",
        "simulation/sources/remembering.py",
        "(address, size, modified): found for address, size, modified, found in rows",
        "next(_identity(one) for one in candidates if one.address == address): found for address, *_, found in rows",
        "tests/simulation/test_sources.py::test_an_unchanged_folder_is_not_read_twice",
    ),
    Fault(
        "a low-rate recording is used unasked",
        "simulation/sources/scanning.py",
        "if found.sample_rate < lowest_rate:",
        "if False:",
        "tests/simulation/test_sources.py::test_kinds_that_may_be_narrow_are_used_below_the_rate",
    ),
    Fault(
        "a corpus forgets what it was made from",
        "simulation/build.py",
        "    keep_sources(root, plan.sources)\n",
        "",
        "tests/simulation/test_provenance.py::test_a_corpus_keeps_its_source_manifest",
    ),
    Fault(
        "bandwidth is where the loudest sound is",
        "simulation/measures.py",
        "BAND_FLOOR_DB = -50.0",
        "BAND_FLOOR_DB = -10.0",
        "tests/simulation/test_measures.py::test_bandwidth_is_where_the_sound_ends",
    ),
    Fault(
        "the card compares what was measured with itself",
        "simulation/card/table.py",
        "                found[field] = float(value)",
        "                found[field] = getattr(measured, field)",
        "tests/simulation/test_card.py::test_what_was_asked_is_what_was_drawn_not_what_came_out",
    ),
    Fault(
        "noisy sources are taken for clean",
        "simulation/card/alarms.py",
        "if value < CLEAN_SNR_DB}",
        "if value < -CLEAN_SNR_DB}",
        "tests/simulation/test_card.py::test_a_source_that_is_not_clean_raises_an_alarm",
    ),
    Fault(
        "the card is drawn and not logged",
        "components/simulate.py",
        '        tracking.artifact(run_id, measured.page, "card.html")\n',
        "",
        "tests/components/test_simulate.py::test_the_stage_logs_the_measured_card",
    ),
    Fault(
        "members of lists are compared by their place",
        "simulation/diff.py",
        "return next((str(name) for name in names if name), str(place))",
        "return str(place)",
        "tests/simulation/test_diff.py::test_members_of_lists_are_compared_by_name",
    ),
    Fault(
        "a pair out of step is a target",
        "simulation/recorded.py",
        "if lag is not None and abs(lag) > MOST_LAG_S * sample_rate:",
        "if False:",
        "tests/simulation/test_pairs.py::test_a_pair_out_of_step_is_set_aside_when_it_is_rendered",
    ),
    Fault(
        "the last pairs are left out",
        "simulation/draw.py",
        "return -(-len(plan.pairs[split]) // rows_per_shard)",
        "return len(plan.pairs[split]) // rows_per_shard",
        "tests/simulation/test_pairs.py::test_pairs_become_a_corpus_of_every_pair_once",
    ),
    # ---- answers that are lost or damaged
    Fault(
        "a body with a wrong checksum is an outage at once",
        "simulation/bucket.py",
        "    botocore.exceptions.FlexibleChecksumError,\n",
        "",
        "tests/simulation/test_storage.py::test_a_body_with_another_checksum_is_read_again",
    ),
    Fault(
        "an upload that was never completed counts as done",
        "simulation/bucket.py",
        "            if self._mark() != mark:\n                raise",
        "            pass",
        "tests/simulation/test_storage.py::test_an_upload_whose_last_answer_was_lost_is_done_if_the_object_is_ours",
    ),
    Fault(
        "audio that was changed on its way is taken for a damaged corpus",
        "simulation/corpus.py",
        "            except BadAudio:  # perhaps",
        "            except OSError:  # perhaps",
        "tests/simulation/test_corpus.py::test_a_part_that_was_changed_on_its_way_is_read_again",
    ),
    Fault(
        "a larger corpus is hidden by the corpus.json of a smaller one",
        "simulation/corpus.py",
        "if digest not in prefix_digests(record.shards) and",
        "if False and",
        "tests/simulation/test_corpus.py::test_a_larger_corpus_opens_though_a_smaller_one_stands_before_it",
    ),
    # ---- batches
    Fault(
        "bring every stretch of a corpus into play at once",
        "training/order.py",
        "chance.uniform(0, WINDOW, rows)",
        "chance.uniform(0, rows, rows)",
        "tests/training/test_order.py::test_each_stretch_is_fetched_once_an_epoch",
    ),
    Fault(
        "cut an epoch into batches as if it began one",
        "training/order.py",
        "head, size = -first % batch, batch",
        "head, size = 0, batch",
        "tests/training/test_order.py::test_bucketed_batches_are_of_like_lengths",
    ),
    Fault(
        "cut a bucketed batch to the shortest of a worker's own share",
        "training/batches.py",
        "read(share(self.indices(step), rank, world), self.samples(step)) for step in islice(steps, count)",
        "read(one := share(self.indices(step), rank, world), min(int(self.lengths[i.index]) for i in one)"
        " if self.lengths is not None else self.samples(step)) for step in islice(steps, count)",
        "tests/training/test_batches.py::test_a_run_that_is_resumed_on_other_workers_meets_every_sample_exactly_once",
    ),
    Fault(
        "deal a step's rows among workers by the step they began at",
        "training/batches.py",
        "self.indices(step), rank, world), self.samples(step)) for step in islice(steps, count)",
        "self.indices(step - first_step), rank, world), self.samples(step)) for step in islice(steps, count)",
        "tests/training/test_batches.py::test_a_run_that_is_resumed_on_other_workers_meets_every_sample_exactly_once",
    ),
    Fault(
        "sort the rows of a step across the end of an epoch",
        "training/batches.py",
        "key=lambda item: (item.epoch, item.index)",
        "key=lambda item: item.index",
        "tests/training/test_batches.py::test_a_run_that_is_resumed_on_other_workers_meets_every_sample_exactly_once",
    ),
    Fault(
        "fetch a stretch for every reader that asks for it at the same time",
        "simulation/nearby.py",
        "            if number not in self._stretches:",
        "            if True:",
        "tests/simulation/test_nearby.py::test_a_stretch_is_one_request",
    ),
    # ---- training runs
    Fault(
        "stop only when every worker has heard that it must",
        "training/halt.py",
        "torch.distributed.ReduceOp.MAX",
        "torch.distributed.ReduceOp.MIN",
        "tests/training/test_halt.py::test_workers_stop_after_the_same_step_and_join_what_they_learnt",
    ),
    Fault(
        "SIGTERM ends a worker between two checkpoints",
        "training/halt.py",
        "lambda *received: _told_to_go.set()",
        "lambda *received: None",
        "tests/training/test_halt.py::test_sigterm_asks_and_does_not_end",
    ),
    Fault(
        "count a worker's unsaved steps among what the weights have learnt from",
        "training/lineage.py",
        "        self._since.append([row_number(each) for each in ids])",
        "        self.learnt = np.append(self.learnt, np.array([row_number(each) for each in ids], np.uint32))",
        "tests/training/test_lineage.py::test_what_was_not_saved_does_not_count",
    ),
    Fault(
        "join the workers' lineages worker by worker instead of step by step",
        "training/lineage.py",
        "        steps = zip(*shares, strict=True)",
        "        steps = shares",
        "tests/training/test_halt.py::test_workers_stop_after_the_same_step_and_join_what_they_learnt",
    ),
    Fault(
        "log a row before its figures on the valid split have come",
        "training/watch.py",
        'complete = [row["step"] not in self.owed for row in self.ready]',
        "complete = [True for row in self.ready]",
        "tests/training/test_watch.py::test_a_row_without_its_figures_holds_back_those_behind_it",
    ),
    Fault(
        "keep the worst versions instead of the best",
        "training/best.py",
        "sign = -1 if self.rule.higher_is_better else 1",
        "sign = 1 if self.rule.higher_is_better else -1",
        "tests/training/test_best.py::test_the_best_stay_and_others_go",
    ),
    Fault(
        "go on from a checkpoint of another recipe",
        "training/checkpoint.py",
        "    found = differences(there, here)\n",
        "    found: list[str] = []\n",
        "tests/training/test_checkpoint.py::test_other_content_is_refused_with_every_difference",
    ),
    Fault(
        "spend a budget and one step more",
        "training/profile.py",
        "if used[name] >= limit)",
        "if used[name] > limit)",
        "tests/training/test_profile.py::test_a_budget_says_what_is_spent",
    ),
    # ---- the record of a training run
    Fault(
        "a checkpoint that never arrived counts as kept work",
        "training/ledger.py",
        "for step, seconds in one.marks if step <= resumed]",
        "for step, seconds in one.marks]",
        "tests/training/test_ledger.py::test_a_checkpoint_that_never_arrived_saves_nothing",
    ),
    Fault(
        "a worker accounts for itself at its end alone",
        "training/ledger.py",
        "        while not over.wait(every_s):\n",
        "        while not over.wait():\n",
        "tests/training/test_ledger.py::test_a_worker_that_is_killed_has_lost_no_more_of_its_account_than_a_beat",
    ),
    Fault(
        "every write waits for a server that is away",
        "training/tracking/runs.py",
        "if began < self._away_until:",
        "if began < 0:",
        "tests/training/test_tracking.py::test_a_server_that_is_slow_to_refuse_is_asked_half_of_the_time_at_most",
    ),
    Fault(
        "listening to a run throws its dice",
        "training/samples.py",
        "with torch.random.fork_rng(devices=[]), ",
        "with ",
        "tests/training/test_samples.py::test_listening_changes_neither_the_network_nor_the_dice",
    ),
    Fault(
        "the revision of whatever repository lies around us is recorded",
        "training/provenance.py",
        'if tracked else ""',
        'if tracked is not None else ""',
        "tests/training/test_provenance.py::test_a_repository_around_the_installation_is_not_ours",
    ),
    Fault(
        "a registration that is repeated leaves a second logged model",
        "training/tracking/logged_models.py",
        "        if found:\n",
        "        if False:\n",
        "tests/training/test_tracking.py::test_a_registration_that_was_killed_half_way_is_finished_by_the_next",
    ),
    Fault(
        "the model card is silent about missing licences",
        "training/model_card.py",
        "licence {one.licence or 'not stated'}",
        "licence {one.licence}",
        "tests/training/test_model_card.py::test_sources_that_were_not_recorded_are_said_to_be_missing",
    ),
    Fault(
        "the gradients of a judge stay with the worker that found them",
        "training/steps.py",
        "return run.learner if seat.world == 1 else",
        "return run.learner if seat.world == 1 or phase == 'judge' else",
        "tests/training/test_workers.py::test_several_workers_learn_what_one_learns",
    ),
    Fault(
        "in a judge's phase the model asks for gradients too",
        "training/run.py",
        "parameter.requires_grad_(id(parameter) in learning)",
        "parameter.requires_grad_(True)",
        "tests/training/test_phases.py::test_each_phase_moves_its_own_weights_alone",
    ),
    Fault(
        "what was counted since the last row is lost with a stop",
        "training/run.py",
        '        self.tally.resume(state["tally"])\n',
        "",
        "tests/training/test_resume.py::test_a_run_that_was_stopped_is_the_undisturbed_run",
    ),
    Fault(
        "a resumed run averages its weights anew",
        "training/run.py",
        '            self.average.load_state_dict(state["average"])',
        "            pass",
        "tests/training/test_resume.py::test_a_run_that_was_stopped_is_the_undisturbed_run",
    ),
    Fault(
        "the last weights are released instead of their average",
        "training/run.py",
        "self.learner.model if self.average is None else cast(Enhancer, self.average.module)",
        "self.learner.model",
        "tests/training/test_phases.py::test_the_average_of_the_weights_is_what_is_validated_and_released",
    ),
    Fault(
        "fp16 takes a bad item for an overflow",
        "training/descent.py",
        "return bool(finite) and",
        "return",
        "tests/training/test_precision.py::test_a_bad_item_stops_a_run_in_fp16_too",
    ),
    Fault(
        "a checkpoint does not wait for the look at its gradient",
        "training/guard.py",
        "while len(self.unseen) > leave:",
        "while len(self.unseen) > max(leave, 1):",
        "tests/training/test_precision.py::test_nothing_is_saved_after_a_gradient_that_nobody_has_looked_at",
    ),
    Fault(
        "copies of a network keep what was compiled for its weights",
        "training/models/base.py",
        " if name not in self.compiled_methods",
        "",
        "tests/training/test_precision.py::test_a_compiled_network_is_the_same_network",
    ),
    Fault(
        "a bare run begins anew each time",
        "training/bare.py",
        '        run.resume(state["run"])\n',
        "",
        "tests/training/test_bare.py::test_a_run_that_is_told_to_stop_goes_on_to_the_same_weights",
    ),
    # ---- diffusion
    Fault(
        "weigh the generative state with what belongs to the predictive one",
        "training/models/gp_unified/samplers.py",
        "return weight * generative + (1 - weight) * predictive",
        "return (1 - weight) * generative + weight * predictive",
        "tests/training/test_gp_unified_sampling.py::test_beta_of_zero_is_the_predictive_output_of_the_last_call",
    ),
    Fault(
        "draw complex noise of variance two",
        "training/models/gp_unified/sde.py",
        "return torch.randn_like(like)",
        "return torch.complex(torch.randn_like(like.real), torch.randn_like(like.real))",
        "tests/training/test_gp_unified_sampling.py::test_noise_has_unit_variance",
    ),
    Fault(
        "let both decoders take their maps off one list",
        "training/models/gp_unified/ncsnpp.py",
        "waiting = list(skips)",
        "waiting = skips",
        "tests/training/test_gp_unified.py::test_decoders_do_not_know_each_other",
    ),
    Fault(
        "ask the predictive decoder in every step",
        "training/models/gp_unified/samplers.py",
        "alpha is not None or beta is not None)",
        "unified)",
        "tests/training/test_gp_unified.py::test_the_predictive_decoder_runs_twice_in_a_unified_sample",
    ),
    Fault(
        "embed the time instead of its logarithm",
        "training/models/gp_unified/ncsnpp.py",
        "* time.log()[:, None] *",
        "* time[:, None] *",
        "tests/training/test_gp_unified.py::test_the_embedding_is_that_of_log_t",
    ),
    Fault(
        "seed the noise of all items with the first seed",
        "training/models/gp_unified/samplers.py",
        "manual_seed(checked_seed(seed)) for seed in seeds]",
        "manual_seed(checked_seed(seeds[0])) for seed in seeds]",
        "tests/training/test_gp_unified_sampling.py::test_an_item_has_its_own_noise",
    ),
    Fault(
        "let frames that only fill up count in the score loss",
        "training/objectives/diffusion.py",
        "kept = slice(0, heard.frames)",
        "kept = slice(None)",
        "tests/training/test_diffusion_objective.py::test_a_fresh_network_scores_what_a_score_of_zero_does",
    ),
    Fault(
        "take steps of 1/N where exact ones are asked for",
        "training/models/gp_unified/samplers.py",
        "else time - follows",
        "else 1 / sampling.steps",
        "tests/training/test_gp_unified_sampling.py::test_few_steps_are_off_as_the_mathematics_says",
    ),
    Fault(
        "draw a seed although the settings have one",
        "training/models/gp_unified/network.py",
        "if seed is None else seed",
        "if True else seed",
        "tests/training/test_gp_unified.py::test_settings_with_a_seed_leave_nothing_to_chance",
    ),
    Fault(
        "learn the score from items that are asked as the predictive mode asks",
        "training/objectives/diffusion.py",
        ">= calls)",
        ">= 0)",
        "tests/training/test_diffusion_objective.py::test_a_share_of_a_batch_is_asked_as_the_predictive_mode_asks",
    ),
    # ---- objectives of the papers
    Fault(
        "phases are compared without unwrapping",
        "training/objectives/terms.py",
        "(angle - 2 * math.pi * torch.round(angle / (2 * math.pi))).abs()",
        "angle.abs()",
        "tests/training/test_terms.py::test_whole_turns_change_no_phase_term",
    ),
    Fault(
        "the omnidirectional phase term forgets the diagonal neighbours",
        "training/objectives/terms.py",
        "if (row, column) != (1, 1):",
        "if (row == 1) != (column == 1):",
        "tests/training/test_terms.py::test_the_omnidirectional_term_is_that_of_the_authors",
    ),
    Fault(
        "spectral terms look at the waveform instead of the network's own spectrum",
        "training/objectives/spectral.py",
        "found = estimate.polar or analysed",
        "found = analysed",
        "tests/training/test_spectral_objective.py::test_terms_look_at_the_networks_own_spectrum",
    ),
    Fault(
        "RENet's phase term weighs a tenth of what it should",
        "training/objectives/papers.py",
        "omnidirectional=2e4",
        "omnidirectional=2e3",
        "tests/training/test_spectral_objective.py::test_each_paper_has_its_weights",
    ),
    Fault(
        "hinge losses go on beyond their margin",
        "training/objectives/gan.py",
        "(lambda score: (1 - score).relu())",
        "(lambda score: 1 - score)",
        "tests/training/test_discriminators.py::test_hinge_and_least_squares_have_their_closed_forms",
    ),
    Fault(
        "judges learn from the newest output, whatever the delay",
        "training/objectives/waiting.py",
        "share = self.share(self._now - self.delay)",
        "share = self.share(self._now - 1)",
        "tests/training/test_waiting.py::test_pairs_come_back_after_the_delay_in_any_pieces",
    ),
    Fault(
        "what waits for the judges is lost with a checkpoint",
        "training/objectives/waiting.py",
        "return {str(step): pairs for step, pairs in self.steps.items()}",
        "return {}",
        "tests/training/test_waiting.py::test_what_waits_survives_a_checkpoint",
    ),
    Fault(
        "each worker's judges learn from its own output, which is lost when their number changes",
        "training/objectives/waiting.py",
        "self.steps[self._now] = _gathered(torch.cat(self._made))",
        "self.steps[self._now] = torch.cat(self._made)",
        "tests/training/test_workers.py::test_several_workers_learn_what_one_learns",
    ),
    Fault(
        "a piece that PESQ cannot score counts as the worst",
        "training/objectives/metric_judge.py",
        "error.square() * found.isfinite()",
        "error.square()",
        "tests/training/test_adversarial.py::test_items_without_a_score_are_left_out_and_counted",
    ),
    Fault(
        "the step waits for PESQ of what it made",
        "training/objectives/metric_judge.py",
        "            self.scores.ask(clean, enhanced)\n",
        "            self.scores.wait(self.scores.ask(clean, enhanced))\n",
        "tests/training/test_adversarial.py::test_nobody_waits_for_a_score_before_the_delay_is_over",
    ),
    Fault(
        "validation feeds the judges",
        "training/objectives/adversarial.py",
        "        if self.training:\n",
        "        if True:\n",
        "tests/training/test_adversarial.py::test_validation_asks_for_no_score_and_puts_nothing_aside",
    ),
    Fault(
        "PESQ of the same content is computed again",
        "training/objectives/pesq_scores.py",
        "if key not in self._scores:",
        "if key:",
        "tests/training/test_pesq_scores.py::test_each_content_is_computed_once",
    ),
    Fault(
        "processes that compute PESQ outlive the training",
        "training/child.py",
        "        os._exit(1)\n",
        "        pass\n",
        "tests/training/test_pesq_scores.py::test_no_process_outlives_the_training",
    ),
    # ---- networks of DM's and RENet's line, their recipes
    Fault(
        "one block fewer than the published size has",
        "training/models/dm.py",
        "blocks: int = 5",
        "blocks: int = 4",
        "tests/training/test_dm.py::test_dm_has_the_published_size",
    ),
    Fault(
        "a map that does not teach the decoder it shares",
        "training/models/dm.py",
        "else _logit(self.map_head, trunk_BCTF)",
        "else _logit(self.map_head, trunk_BCTF.detach())",
        "tests/training/test_dm.py::test_both_readings_teach_the_same_decoder",
    ),
    Fault(
        "a phase turned round",
        "training/models/dm.py",
        "phase_BFT = (phase_BTF if",
        "phase_BFT = (-phase_BTF if",
        "tests/training/test_dm.py::test_the_noisy_phase_is_kept",
    ),
    Fault(
        "a magnitude below zero where the skip is negative",
        "training/models/dm.py",
        "self.alpha * masked_BTF).clamp(min=0.0)",
        "self.alpha * masked_BTF)",
        "tests/training/test_dm.py::test_no_magnitude_is_negative",
    ),
    Fault(
        "a mask that cannot raise anything",
        "training/models/dm.py",
        "MASK_CEILING = 2.0",
        "MASK_CEILING = 1.0",
        "tests/training/test_dm.py::test_the_mask_is_bounded_and_starts_as_one",
    ),
    Fault(
        "a map that is a mask",
        "training/models/dm.py",
        "mapped_BTF = functional.softplus(map_BTF)",
        "mapped_BTF = functional.softplus(map_BTF) * noisy_BTF",
        "tests/training/test_dm.py::test_the_map_can_fill_a_band_that_the_mask_cannot",
    ),
    Fault(
        "a map whose head forgets the level",
        "training/models/dm.py",
        "_mask_head(width) if config.tie_head else nn.Conv2d(width, 1, 1)",
        "_mask_head(width)",
        "tests/training/test_dm.py::test_the_map_hears_how_loud_its_decoder_speaks",
    ),
    Fault(
        "a level that is not put back",
        "training/models/dm.py",
        "self.stft.inverse(spectrum, noisy.shape[-1]) / gain",
        "self.stft.inverse(spectrum, noisy.shape[-1])",
        "tests/training/test_dm.py::test_the_level_is_put_back",
    ),
    Fault(
        "bins that do not come back from half as many",
        "training/models/dm.py",
        "nn.ConvTranspose2d(width, width, (1, 3), stride=(1, 2))",
        "nn.ConvTranspose2d(width, width, (1, 2), stride=(1, 2))",
        "tests/training/test_dm.py::test_other_odd_numbers_of_bins_fit",
    ),
    Fault(
        "positions that end with the table",
        "training/models/layers.py",
        ".clamp(-self.reach, self.reach) + self.reach",
        " + self.reach",
        "tests/training/test_dm.py::test_far_places_share_one_position_for_ten_seconds",
    ),
    Fault(
        "half of the gated feed-forward",
        "training/models/renet.py",
        "glu_width: int = 64",
        "glu_width: int = 32",
        "tests/training/test_renet.py::test_renet_has_the_published_size",
    ),
    Fault(
        "maps of the magnitude interleaved in another order",
        "training/models/renet.py",
        "magnitude = interleaved(magnitude)",
        "magnitude = interleaved(magnitude.flip(1))",
        "tests/training/test_renet.py::test_upsampled_bins_alternate_between_two_maps",
    ),
    Fault(
        "hybrid attention without its scale",
        "training/models/renet.py",
        "scaled_dot_product_attention(query, key, value, attn_mask=seen)",
        "scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=1.0)",
        "tests/training/test_renet.py::test_hybrid_attention_is_the_complex_formula",
    ),
    Fault(
        "a batch that batch normalisation counts twice",
        "training/models/layers.py",
        "(nullcontext(), _uncounted(block))",
        "(nullcontext(), nullcontext())",
        "tests/training/test_activation_checkpointing.py::test_checkpointing_changes_neither_output_nor_gradient_nor_statistics",
    ),
    Fault(
        "activations kept although they will be computed again",
        "training/models/renet.py",
        "recompute=self.config.activation_checkpointing",
        "recompute=False",
        "tests/training/test_activation_checkpointing.py::test_checkpointing_keeps_a_third_at_most",
    ),
    Fault(
        "an export without the phase's own decoder",
        "training/export.py",
        "phase if self.model.phase_decoder is None else",
        "phase if True else",
        "tests/training/test_export.py::test_a_program_computes_what_the_network_computes",
    ),
    Fault(
        "a version that learnt from a corpus called a stranger to it",
        "training/acquaintance.py",
        'return "learnt from it" if corpus.split == "train" else',
        'return "another split of it" if corpus.split == "train" else',
        "tests/training/test_acquaintance.py::test_the_plan_tells_whether_a_version_knows_a_corpus",
    ),
    Fault(
        "Griffin-Lim that keeps the magnitude it finds",
        "training/phase_retrieval.py",
        "torch.polar(magnitude, stft(waveform).angle())",
        "torch.polar(stft(waveform).abs(), stft(waveform).angle())",
        "tests/training/test_phase_retrieval.py::test_each_projection_brings_the_magnitude_nearer",
    ),
    Fault(
        "a filling at one level for all",
        "training/baselines.py",
        "self.magnitude * _rms(noisy)",
        "self.magnitude",
        "tests/training/test_baselines.py::test_the_mean_spectrum_is_filled_in_at_the_level_of_the_utterance",
    ),
    Fault(
        "a full budget with a schedule of its own",
        "training/cookbook.py",
        "decay_steps=EPOCH_STEPS",
        "decay_steps=1000",
        "tests/training/test_cookbook.py::test_a_full_recipe_has_the_published_training",
    ),
    # ---- RaD-Net 2
    Fault(
        "stage 1's convolution modules see both sides",
        "training/models/rad_net2/temporal.py",
        "        return memory.behind(x, places, 2)\n",
        "        return functional.pad(x, (0, 0) * (x.ndim - 3) + (places // 2, places - places // 2))\n",
        "tests/training/test_rad_net2.py::test_no_sample_waits_longer_than_a_window",
    ),
    Fault(
        "the teacher is causal",
        "training/models/rad_net2/temporal.py",
        "    half = places // 2\n",
        "    half = places\n",
        "tests/training/test_rad_net2.py::test_the_convolutions_of_the_teacher_look_as_far_ahead_as_back",
    ),
    Fault(
        "a running norm knows all frames of its chunk",
        "training/models/rad_net2/temporal.py",
        "moments_2BT.cumsum(-1), x.shape[2]",
        "moments_2BT.cumsum(-1)[..., -1:].expand_as(moments_2BT), x.shape[2]",
        "tests/training/test_rad_net2.py::test_a_running_norm_knows_the_past_alone",
    ),
    Fault(
        "running sums in single precision",
        "training/models/rad_net2/temporal.py",
        ".flatten(2).double()",
        ".flatten(2).float()",
        "tests/training/test_rad_net2.py::test_a_running_norm_stays_exact_over_minutes",
    ),
    Fault(
        "the transposed convolution is trimmed at the other end",
        "training/models/rad_net2/denoising.py",
        "out[:, :, 1:-1]",
        "out[:, :, 2:]",
        "tests/training/test_rad_net2.py::test_the_way_up_in_time_keeps_its_frame",
    ),
    Fault(
        "queries, keys and values lie in blocks",
        "training/models/rad_net2/axial.py",
        "x_BCTF.unflatten(1, (-1, count)).permute(2, 0, 3, 4, 1)",
        "x_BCTF.unflatten(1, (count, -1)).permute(1, 0, 3, 4, 2)",
        "tests/training/test_rad_net2.py::test_queries_keys_and_values_lie_interleaved",
    ),
    Fault(
        "parts of complex attention paired wrongly",
        "training/models/rad_net2/axial.py",
        "real = through_real[0] - through_imaginary[1]",
        "real = through_real[0] + through_imaginary[1]",
        "tests/training/test_rad_net2.py::test_paired_attention_is_a_complex_map",
    ),
    Fault(
        "both branches of a gate have the sigmoid",
        "training/models/rad_net2/temporal.py",
        "        value_BDT = self.value(inner_BDT, memory)\n",
        "        value_BDT = self.value(inner_BDT, memory).sigmoid()\n",
        "tests/training/test_rad_net2.py::test_one_branch_of_a_gate_has_the_sigmoid",
    ),
    Fault(
        "a frozen first stage goes on counting statistics",
        "training/models/rad_net2/network.py",
        "            self.repairing.eval()\n",
        "            pass\n",
        "tests/training/test_rad_net2.py::test_a_frozen_first_stage_stays_as_it_is",
    ),
    Fault(
        "a run that goes on from a version begins with fresh weights",
        "training/run.py",
        "if recipe.begins_with is not None:",
        "if False:",
        "tests/training/test_beginnings.py::test_the_four_steps_follow_one_another",
    ),
    Fault(
        "weights of another shape are left out without a word",
        "training/beginnings.py",
        "    if homeless:\n",
        "    theirs = {name: value for name, value in theirs.items() if name not in homeless}\n    if False:\n",
        "tests/training/test_beginnings.py::test_weights_without_a_place_are_answered",
    ),
    Fault(
        "a teacher that is not there is met only at the first step",
        "training/beginnings.py",
        "(*taken, *recipe.objective.versions())",
        "taken",
        "tests/training/test_beginnings.py::test_a_version_that_is_not_there_is_answered_before_anything_is_trained",
    ),
    Fault(
        "a teacher's statistics follow what its student hears",
        "training/objectives/distillation.py",
        "self._teacher[0].to(noisy.device, noisy.dtype)",
        "self._teacher[0].to(noisy.device, noisy.dtype).train()",
        "tests/training/test_power_law.py::test_a_teacher_is_no_part_of_what_is_trained_or_saved",
    ),
    Fault(
        "features of a teacher weigh by their size",
        "training/objectives/distillation.py",
        ".mean(-1) / (size + SMALLEST)",
        ".mean(-1)",
        "tests/training/test_power_law.py::test_features_are_compared_in_sizes_of_the_teacher",
    ),
    Fault(
        "asymmetry punishes what is too much",
        "training/objectives/power_law.py",
        "(wanted.abs() - found.abs()).relu()",
        "(found.abs() - wanted.abs()).relu()",
        "tests/training/test_power_law.py::test_the_terms_have_their_closed_forms",
    ),
    Fault(
        "RaD-Net 2's judges do not hear the level",
        "training/objectives/power_law.py",
        "return noisy.new_ones(len(noisy), 1)",
        "return (noisy.square().mean(-1, keepdim=True) + 1e-10).rsqrt()",
        "tests/training/test_power_law.py::test_judges_hear_how_loud_it_is",
    ),
    Fault(
        "stage 1 brings its input to a level of its own",
        "training/models/rad_net2/network.py",
        "            repaired_BCTF = self.repairing(x_BCTF, memory)\n",
        "            repaired_BCTF = self.repairing(x_BCTF / x_BCTF.std(), memory)\n",
        "tests/training/test_rad_net2.py::test_the_level_of_the_whole_is_not_taken_away",
    ),
    Fault(
        "DM's noise through the band limit",
        "simulation/scenarios/dm.py",
        'band_limit.model_copy(update={"probability": 0.5}), noise)',
        'noise, band_limit.model_copy(update={"probability": 0.5}))',
        "tests/simulation/test_scenarios.py::test_the_noise_of_dm_is_not_band_limited",
    ),
    # ---- searches, and what a person sees who waits
    Fault(
        "draw what a search tries without its seed",
        "training/tuning.py",
        "random_state=recipe.seed",
        "random_state=None",
        "tests/training/test_tuning.py::test_what_is_tried_follows_from_the_seed",
    ),
    Fault(
        "report a trial's look before it is kept",
        "components/tune.py",
        "        storage.replace(self.address, canonical_json(stored))\n        self.report(step, figures)\n",
        "        self.report(step, figures)\n        storage.replace(self.address, canonical_json(stored))\n",
        "tests/components/test_tune.py::test_looks_are_kept_before_they_are_reported_and_reported_once",
    ),
    Fault(
        "train a trial again that was finished",
        "components/tune.py",
        "if looks.last_step < recipe.steps:",
        "if True:",
        "tests/components/test_tune.py::test_a_finished_trial_is_not_trained_again",
    ),
    Fault(
        "let what is searched be part of what is trained",
        "training/recipe.py",
        "Field(default={}, exclude=True)",
        "Field(default={})",
        "tests/training/test_search.py::test_what_is_searched_is_no_part_of_what_is_trained",
    ),
    Fault(
        "import torch before the first word",
        "pipelines/commands/recipe.py",
        '    say(f"tune {recipe}',
        '    import torch  # noqa: F401\n\n    say(f"tune {recipe}',
        "tests/pipelines/test_cli.py::test_the_first_word_comes_before_anything_heavy",
    ),
    # ---- what a person hears before a run begins, and what its version says
    Fault(
        "give the best step the lineage of the last",
        "training/fit.py",
        "lineage = lineage.before(best.step * errand.recipe.batch_size)",
        "lineage = lineage.before(len(lineage.learnt))",
        "tests/training/test_fit.py::test_the_lineage_of_the_best_step_ends_with_that_step",
    ),
    Fault(
        "release the last step where the recipe asks for the best",
        "training/bare.py",
        "recipe.keep_best.release:",
        "False:",
        "tests/training/test_bare.py::test_keeping_the_best_is_refused_here",
    ),
    # ---- BSP-MPNet
    Fault(
        "take whatever weights the SSL model's source holds now",
        "training/pretrained.py",
        "        if sha256 not in (None, ssl.sha256):",
        "        if False:",
        "tests/training/test_pretrained.py::test_another_digest_than_the_expected_one_is_refused",
    ),
    Fault(
        "begin with random weights in the place of released ones",
        "training/pretrained.py",
        "        begun.ssl.network.load_state_dict(released.state_dict())\n",
        "",
        "tests/training/test_pretrained.py::test_a_network_begins_with_released_weights_and_its_version_says_whose",
    ),
    Fault(
        "repeat frames of the SSL model instead of putting them where they belong",
        "training/models/bsp_mpnet/ssl.py",
        "((at_BT.double() - (FIELD - 1) / 2) / STRIDE).clamp(",
        "(at_BT.double() / hop_size // 2).clamp(",
        "tests/training/test_bsp_mpnet.py::test_features_stand_where_the_frames_of_the_spectrum_do",
    ),
    Fault(
        "the SSL model's last layer without its normalisation",
        "training/models/bsp_mpnet/ssl.py",
        "layers = [*found.hidden_states[:-1], found.last_hidden_state]",
        "layers = [*found.hidden_states]",
        "tests/training/test_bsp_mpnet.py::test_as_many_layers_are_weighed_as_the_model_has",
    ),
    Fault(
        "a frozen SSL model in training mode",
        "training/models/bsp_mpnet/network.py",
        "        if self.frozen:\n            self.ssl.eval()\n",
        "",
        "tests/training/test_bsp_mpnet.py::test_a_frozen_model_leaves_nothing_out_by_lot_while_the_rest_trains",
    ),
    Fault(
        "undo the stretching at the output",
        "training/models/bsp_mpnet/network.py",
        "torch.polar(found.magnitude.expm1(), found.phase)",
        "torch.polar((found.magnitude / self.contrast).expm1(), found.phase)",
        "tests/training/test_bsp_mpnet.py::test_with_masks_of_one_the_output_is_the_stretched_input",
    ),
    Fault(
        "a target that is not stretched",
        "training/objectives/contrast.py",
        "            wanted = model.analysed(clean)\n",
        "            wanted = Polar(model.stft(clean).abs().log1p(), model.stft(clean).angle())\n",
        "tests/training/test_bsp_mpnet.py::test_clean_speech_and_masks_of_one_cost_nothing",
    ),
    Fault(
        "partial fine-tuning of the convolutions too",
        "training/models/bsp_mpnet/network.py",
        '"partial": ("ssl.network.feature_extractor.",)',
        '"partial": ("ssl.network.nothing.",)',
        "tests/training/test_bsp_mpnet.py::test_fine_tuning_leaves_what_it_says_without_gradient",
    ),
    Fault(
        "embeddings of a piece that stand where the row begins",
        "training/embeddings.py",
        "torch.tensor(start - first * STRIDE)",
        "torch.tensor(0)",
        "tests/training/test_embeddings.py::test_frames_of_a_piece_are_those_of_the_whole_row",
    ),
    Fault(
        "listen to the valid split without what stands beside it",
        "training/loop.py",
        "with learner.told(beside):",
        "with learner.told({}):",
        "tests/training/test_embeddings.py::test_a_second_training_does_no_ssl_work",
    ),
    Fault(
        "compute what the store has",
        "training/derived.py",
        "if each not in there)",
        "if True)",
        "tests/training/test_derived.py::test_what_is_there_is_not_computed_again",
    ),
    Fault(
        "take whatever another writer left",
        "training/derived.py",
        "AGREEMENT = 0.01",
        "AGREEMENT = 100.0",
        "tests/training/test_derived.py::test_of_two_writers_the_first_counts_and_the_other_must_agree",
    ),
    Fault(
        "layer weights that are all alike pass unnoticed",
        "training/models/bsp_mpnet/inside.py",
        "EQUAL = 1.02",
        "EQUAL = 0.98",
        "tests/training/test_bsp_mpnet.py::test_layer_weights_that_are_all_alike_are_flagged_path_by_path",
    ),
    Fault(
        "remarks on a network that its scores come without",
        "training/report.html.j2",
        "{% for remark in system.remarks %}",
        "{% for remark in [] %}",
        "tests/training/test_report.py::test_what_a_reader_should_know_of_a_network_stands_beside_its_scores",
    ),
    # ---- what networks cost, whether they can still learn, what leaves without Python
    Fault(
        "a skip without its factor",
        "training/models/dm.py",
        "mapped_BTF + self.alpha * masked_BTF",
        "mapped_BTF + masked_BTF",
        "tests/training/test_dm.py::test_without_skip_and_mask_only_the_map_is_left",
    ),
    Fault(
        "a mask saturated on one side alone",
        "training/models/layers.py",
        "(self.slope * x_BTF).abs() > self.SATURATED",
        "(self.slope * x_BTF) > self.SATURATED",
        "tests/training/test_dm.py::test_a_mask_whose_values_stand_at_their_ends_is_told",
    ),
    Fault(
        "nobody hears that a mask learns no more",
        "training/loop.py",
        "for alarm in alarms(row) if seat.rank == 0 else ():",
        "for alarm in ():",
        "tests/training/test_loop.py::test_a_mask_that_learns_no_more_is_said_aloud",
    ),
    Fault(
        "a power whose root has no slope at silence",
        "training/spectral.py",
        "spectrum.imag.square() + POWER_FLOOR)",
        "spectrum.imag.square())",
        "tests/training/test_spectral.py::test_compression_has_a_finite_gradient_at_silence",
    ),
    Fault(
        "a floor that quiet bins feel",
        "training/spectral.py",
        "POWER_FLOOR = 1e-9",
        "POWER_FLOOR = 1e-6",
        "tests/training/test_spectral.py::test_compression_is_undone_by_its_inverse",
    ),
    Fault(
        "one level for a whole batch",
        "training/spectral.py",
        "waveform.square().mean(-1, keepdim=True) + LEVEL_FLOOR",
        "waveform.square().mean().expand(len(waveform), 1) + LEVEL_FLOOR",
        "tests/training/test_spectral.py::test_level_gain_brings_each_waveform_to_the_same_level",
    ),
    Fault(
        "a loaded network that goes on as if it trained",
        "training/checkpoint.py",
        "    return model.eval()\n",
        "    return model\n",
        "tests/training/test_models.py::test_a_saved_network_is_the_same_network",
    ),
    Fault(
        "half of the complex distance",
        "training/objectives/terms.py",
        "difference.imag.square()).mean((-2, -1))\n",
        "difference.imag.square()).mean((-2, -1)) / 2\n",
        "tests/training/test_terms.py::test_magnitude_complex_and_time_are_means_of_squares_and_of_moduli",
    ),
    Fault(
        "neighbours outside that turn too",
        "training/objectives/terms.py",
        "functional.pad(error, (1, 1, 1, 1))",
        "functional.pad(error, (1, 1, 1, 1), mode='replicate')",
        "tests/training/test_terms.py::test_the_omnidirectional_term_sees_a_constant_turn_in_one_map_and_at_the_border",
    ),
    Fault(
        "an exported graph that gives no numbers",
        "training/export.py",
        "if not difference <= TOLERANCE:",
        "if difference > TOLERANCE:",
        "tests/training/test_export.py::test_a_program_with_other_numbers_is_refused",
    ),
    Fault(
        "an export that nobody compares with the network",
        "training/export.py",
        '    check(core, run, core.heard(batch, frames), "ONNX Runtime")\n',
        "",
        "tests/training/test_export.py::test_onnx_is_checked_before_it_is_given_out",
    ),
    Fault(
        "a cost that stands beside another network",
        "serving/network_costs.py",
        "if name in PRESETS and cost.settings == PRESETS[name].config.digest()",
        "if name in PRESETS",
        "tests/serving/test_network_costs.py::test_what_was_measured_is_kept_until_the_network_changes",
    ),
    Fault(
        "the clock in the place of the processor's time",
        "serving/network_costs.py",
        "time.process_time() - worked",
        "time.perf_counter() - began",
        "tests/serving/test_network_costs.py::test_a_pass_is_timed_in_processor_time_and_by_the_clock",
    ),
    Fault(
        "a measurement that may take all memory",
        "serving/network_costs.py",
        "    leave_room()\n    found",
        "    found",
        "tests/serving/test_network_costs.py::test_a_network_that_wants_more_memory_than_is_free_is_answered",
    ),
    # ---- canary
    Fault(
        "several likelihood ratios are added up instead of averaged",
        "serving/canary.py",
        "np.logaddexp.reduce(ratios) - np.log(len(larger))",
        "np.logaddexp.reduce(ratios)",
        "tests/serving/test_canary.py::test_an_acceptable_candidate_is_seldom_rolled_back_for_a_check",
    ),
    Fault(
        "a check that never said anything is a pass",
        "serving/canary.py",
        "if log_evidence_for(check, tally) < -np.log(rules.beta)]",
        "if tally.judged and log_evidence_for(check, tally) < -np.log(rules.beta)]",
        "tests/serving/test_canary.py::test_what_cannot_be_told_is_no_pass",
    ),
    Fault(
        "a candidate's answer is given to its caller whatever it is",
        "serving/traffic.py",
        "if asked.done() and not unusable(ours, asked.result()):",
        "if asked.done() and not asked.result().problem:",
        "tests/serving/test_traffic.py::test_a_candidate_that_fails_never_costs_its_caller_the_answer",
    ),
    Fault(
        "a replica goes on asking the candidate after the judge said stop",
        "serving/traffic.py",
        "self.stopped = self.stopped or not go_on",
        "self.stopped = False",
        "tests/serving/test_traffic.py::test_after_the_judge_said_stop_the_champion_answers_alone",
    ),
    Fault(
        "a candidate that was rolled back goes on answering its share",
        "serving/steps.py",
        "        service.let_out()\n",
        "        pass\n",
        "tests/serving/test_promotion.py::test_a_canary_that_finds_a_fault_leaves_the_champion_champion",
    ),
    Fault(
        "a canary does not hear that a person ended it",
        "serving/promotion.py",
        "lambda event: note(lease.store, version.use, event), lease.check)",
        "lambda event: note(lease.store, version.use, event))",
        "tests/serving/test_promotion.py::test_rolling_back_during_a_canary_ends_the_canary",
    ),
    Fault(
        "one answer of the new version among old ones is a switch",
        "serving/ray_service.py",
        'row = row + 1 if self._answers("", wanted) else 0',
        'row = row + 1 if self._answers("", wanted) else row',
        "tests/serving/test_ray_service.py::test_a_switch_counts_when_no_replica_answers_with_the_old_version",
    ),
    Fault(
        "a service is brought back to the alias in the middle of a promotion",
        "serving/reconcile.py",
        "    if lease.held(store, use):\n        return False\n",
        "",
        "tests/serving/test_ray_service.py::"
        "test_a_service_is_brought_back_to_the_alias_and_cleared_of_what_a_killed_promotion_left",
    ),
    # ---- distillation
    Fault(
        "teachers are asked although their lessons are kept",
        "training/objectives/distillation.py",
        'if self.config.lessons == "asked":',
        "if True:",
        "tests/training/test_distillation.py::test_kept_lessons_take_the_teachers_place",
    ),
    Fault(
        "of several teachers only the first is heard",
        "training/objectives/distillation.py",
        "enhanced = torch.stack([each.enhanced for each in estimates]).mean(0)",
        "enhanced = estimates[0].enhanced",
        "tests/training/test_distillation.py::test_several_teachers_are_averaged",
    ),
    Fault(
        "features of a piece are cut from the beginning of the mixture",
        "training/objectives/distillation_lessons.py",
        "round(start / hop)",
        "0",
        "tests/training/test_distillation.py::test_lessons_are_what_teachers_say_of_whole_mixtures",
    ),
    Fault(
        "a student of recordings without a clean side looks at it",
        "training/objectives/distillation_objective.py",
        "if self.config.clean:",
        "if True:",
        "tests/training/test_distillation.py::test_without_a_clean_side_the_teacher_alone_is_learnt_from",
    ),
    Fault(
        "a map between features does not learn with the student",
        "training/objectives/base.py",
        "own = list(self.parameters()) if phase != MODEL or self.phases == (MODEL,) else []",
        "own = list(self.parameters()) if phase != MODEL else []",
        "tests/training/test_distillation.py::test_between_widths_a_map_is_learnt",
    ),
)


def main() -> int:
    """Every fault in turn; the number of those that got through, or could not be planted, is the exit code."""
    faults = [
        fault for fault in FAULTS if not sys.argv[1:] or any(word in text for word in sys.argv[1:] for text in fault)
    ]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(LANES) as pool:
        free: SimpleQueue[Path] = SimpleQueue()
        for lane in range(LANES):
            free.put(_copy(Path(folder, str(lane))))
        sound = free.get()
        if (code := _tested(sound, sorted({fault.test for fault in faults}))) != PASSED:
            print(f"the named tests do not pass without any fault planted (exit code {code} of pytest)")
            return 1
        free.put(sound)
        outcomes = list(pool.map(lambda fault: _in_a_copy(free, fault), faults))
    print(f"{outcomes.count('caught')} of {len(faults)} faults caught")
    return len(faults) - outcomes.count("caught")


def _copy(folder: Path) -> Path:
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    return folder


def _in_a_copy(free: "SimpleQueue[Path]", fault: Fault) -> str:
    """One fault at a time in each copy."""
    copy = free.get()
    try:
        return _outcome(copy, fault)
    finally:
        free.put(copy)


def _outcome(copy: Path, fault: Fault) -> str:
    """Plant a fault, run its test, and take the fault out again."""
    began, path = time.monotonic(), copy / fault.file
    text = path.read_text()
    if fault.right not in text:
        outcome = "STALE"  # the line was rewritten: plant the fault in the new one
    else:
        path.write_text(text.replace(fault.right, fault.wrong, 1))
        try:
            outcome = {PASSED: "SURVIVED", FAILED: "caught"}.get(_tested(copy, [fault.test]), "BROKEN")
        finally:
            path.write_text(text)
    print(f"{outcome:8} {time.monotonic() - began:3.0f} s  {fault.what} ({fault.test})", flush=True)
    return outcome


def _tested(copy: Path, tests: list[str]) -> int:
    """Exit code of pytest for these tests on the copy, which shadows the installed project, in child processes too."""
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*words, "-m", "not long"], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in (PASSED, FAILED) or (done.returncode == FAILED and len(tests) > 1):
        print(done.stdout[-2000:], done.stderr[-2000:])
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
