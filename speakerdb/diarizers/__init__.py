"""Who speaks when: the port `Diarizer` and its adapters.

`port` has the words. `pyannote` runs pyannote's `SpeakerDiarization`, which `loading` makes from files that `finding` found and
checked, as `config` reads them; `shared` passes each chunk through the embedding network once (`frames` says on what), and
`watching` looks on: progress, timing, scores. `given` takes turns that are there already, `channels` a recording with one
person a channel, and `cloud` sends sound away, where that was allowed. `windows` and `core.joining` are for long recordings.
`evaluating` says how good turns are. torch and pyannote are imported when they are used.
"""
