// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Migration

/// How much a destination's devices have to be like the stream's, for the commands that load.
struct TagOptions: ParsableArguments {
  @Option(help: "How much of the compatibility tags has to match: strict, loose, none.", transform: TagPolicy.named)
  var policy = TagPolicy.loose
}
