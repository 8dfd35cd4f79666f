// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Migration

/// How a group of devices is to be moved, for the commands that do so.
struct SessionOptions: ParsableArguments {
  @Flag(help: "Change devices that --pid names.")
  var force = false

  @Flag(help: "Reset a device that nothing else brings back. What is in it is lost.")
  var resetOnError = false

  @Option(
    help: ArgumentHelp(
      "Report devices as hung that have not ended a step of the stop or the start after this many milliseconds.",
      valueName: "MS"))
  var stepLimit: UInt64 = 5000

  @Flag(name: .shortAndLong, help: "Print each step on standard error.")
  var verbose = false

  func validate() throws {
    guard (1...86_400_000).contains(stepLimit) else { throw ValidationError("--step-limit takes 1 to 86,400,000 ms") }
  }

  /// How the group comes to its stop. No vCPU runs: devices that are opened here nobody else has; of those that a process
  /// holds (--pid) --force says so, and of one that was handed over (--fd) whoever did it answers for that.
  func quiescing(_ peers: PeerOptions) -> QuiesceConfiguration {
    var configuration = QuiesceConfiguration()
    configuration.vcpusAreStopped = true
    configuration.stepLimit = stepLimit * 1000
    configuration.flushes = peers.flush
    return configuration
  }
}
