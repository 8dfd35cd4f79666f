// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import LinuxIO
internal import Migration
internal import Transport

struct SaveCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "save", abstract: "Write the state of devices into a file.",
    discussion: """
      With --pid this saves what a running VM has in its devices. Without, the devices are opened here, and opening a \
      PCI device resets it: what is saved then is a fresh device, which is good for trying out a driver, a stream or a \
      destination, and for nothing else. (Emulated devices such as mtty keep their state when nobody holds them.)

      Pre-copy where the device offers it, then all devices go to their P2P state, then all to stop-copy; each is read to \
      its end, and then they run again. A failure or an interrupt takes every device back to the state it was found in. \
      FILE appears when it is complete, and not before.

      --keep-stopped leaves the devices in stop and holds them until SIGUSR1 (they run again) or SIGTERM (they are let \
      go as they are; the kernel resets PCI devices that nobody else holds).
      """)

  @OptionGroup var format: FormatOptions
  @OptionGroup var access: DeviceOptions
  @OptionGroup var session: SessionOptions
  @OptionGroup var peers: PeerOptions

  @Option(name: .shortAndLong, help: ArgumentHelp("Where to write; - is standard output.", valueName: "FILE"))
  var output: String

  @Flag(help: "Leave the devices in stop, and hold them.")
  var keepStopped = false

  @Flag(inversion: .prefixedNo, help: "Read state ahead of the stop where the device offers it.")
  var preCopy = true

  @Argument(help: ArgumentHelp("The devices, in the order of the stream.", valueName: "DEV"))
  var devices: [String]

  func validate() throws {
    if devices.isEmpty { throw ValidationError("name a device") }
    if devices.count > StreamFormat.maximumDevices {
      throw ValidationError("a stream holds at most \(StreamFormat.maximumDevices) devices")
    }
  }

  var changesDevices: Bool { true }

  func execute(_ console: Console) throws {
    if access.pid != nil, !session.force { throw CommandFailure.refused(StateCommand.needsForce) }
    let deviceAccess = DeviceAccess(way: access.way)
    let reachability = try SessionSupport.reachability(
      of: deviceAccess.check(devices), peers, inventory: deviceAccess.inventory)
    let file = try OutputFile(output)
    // Nothing is left of it once it was kept.
    defer { file.discard() }
    try SignalDesk.open()
    let opened = try deviceAccess.open(devices, console: console)
    let described = try SessionSupport.describe(opened)
    if let refusal = SaveSession.refusal(devices: described) { throw deviceAccess.refusal(refusal, of: opened) }
    let plan = try deviceAccess.plan(described, reachability, of: opened)
    var configuration = SaveSession.Configuration()
    configuration.keepStopped = keepStopped
    configuration.preCopy = preCopy
    configuration.resetAllowed = session.resetOnError
    configuration.quiescing = session.quiescing(peers)
    configuration.buffers = max(configuration.buffers, described.count)
    let names = described.map(\.name)
    let display = SessionDisplay(console: console, names: names, verbose: session.verbose)
    let began = monotonicMicroseconds()
    let ended = try SessionSupport.run(
      SaveSession(devices: described, plan: plan, configuration: configuration), devices: opened, channel: file.channel,
      checksum: .xxh3, buffers: configuration.buffers, display: display)
    let took = monotonicMicroseconds() - began
    guard let outcome = ended.outcome else { preconditionFailure("a session ends with an outcome") }
    if ended.isStreamComplete {
      do throws(CommandFailure) {
        try file.keep()
      } catch {
        throw outcome.failure(names: names, doing: "saving") ?? error
      }
    }
    let start = MonotonicTime(microseconds: began)
    let steps = JSON.array(ended.steps.map { $0.json(names: names, since: start) })
    if format.wantsJSON, outcome.fault != nil {
      SessionSupport.reportFailure(outcome, steps: steps, names: names, format, console)
    }
    if let failure = outcome.failure(names: names, doing: ended.isStreamComplete ? "running again" : "saving") {
      throw failure
    }
    report(ended, outcome, steps: steps, took: took, toError: file.isStandardOutput, console)
    if keepStopped { try hold(opened, plan, console) }
  }

  private func report(
    _ session: SaveSession, _ outcome: SessionOutcome, steps: JSON, took: UInt64, toError: Bool, _ console: Console
  ) {
    let downtime =
      keepStopped ? nil : session.stopBegan.flatMap { began in session.stopEnded.map { $0.microseconds(since: began) } }
    // Where the stream itself goes to standard output, the report goes the other way.
    let say = toError ? console.note : { console.line($0) }
    if format.wantsJSON {
      let devices = zip(outcome.devices, zip(session.progress, session.restarts)).map { device, figures in
        JSON.object([
          "name": .string(device.name), "state": JSON(device.state?.name), "bytes": .unsigned(figures.0.bytes),
          "pre_copy_bytes": .unsigned(figures.0.preCopyBytes), "restarts": .integer(Int64(figures.1)),
        ])
      }
      say(
        JSON.object([
          "file": .string(output), "devices": .array(devices), "downtime_us": JSON(downtime),
          "total_us": .unsigned(took), "steps": steps,
        ]).text(pretty: format.pretty))
      return
    }
    for (device, progress) in zip(outcome.devices, session.progress) {
      say(
        "\(device.name): \(progress.bytes) bytes, \(progress.preCopyBytes) of them before the stop; now in "
          + "\(device.state?.name ?? "an unknown state")")
    }
    say((downtime.map { "stopped for \(Figures.time($0)), " } ?? "stopped; ") + "\(Figures.time(took)) in all")
  }

  private func hold(_ opened: [OpenDevice], _ plan: QuiescePlan, _ console: Console) throws {
    let signal = SessionSupport.hold(opened, resumable: true) {
      console.note("holding \(opened.count) stopped: SIGUSR1 lets them run again, SIGTERM lets them go")
    }
    guard signal == SIGUSR1 else { return }
    let described = try SessionSupport.describe(opened)
    let names = described.map(\.name)
    let resumed = try SessionSupport.run(
      ResumeSession(
        devices: described, plan: plan, resetAllowed: session.resetOnError, configuration: session.quiescing(peers)),
      devices: opened, channel: NoChannel(), checksum: .xxh3, buffers: 0,
      display: SessionDisplay(console: console, names: names, verbose: session.verbose))
    if let failure = resumed.outcome?.failure(names: names, doing: "running again") { throw failure }
  }
}
