// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration

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
    let group = try OpenGroup(devices, deviceAccess, reachability, console: console)
    var configuration = SaveSession.Configuration()
    configuration.keepStopped = keepStopped
    configuration.preCopy = preCopy
    configuration.resetAllowed = session.resetOnError
    configuration.quiescing = session.quiescing(peers)
    configuration.buffers = max(configuration.buffers, group.described.count)
    let ended = try SessionSupport.run(
      SaveSession(devices: group.described, plan: group.plan, configuration: configuration), group,
      channel: file.channel, buffers: configuration.buffers, verbose: session.verbose, console)
    let (outcome, isComplete) = (ended.outcome, ended.machine.isStreamComplete)
    if isComplete {
      do throws(CommandFailure) {
        try file.keep()
      } catch {
        throw outcome.failure(names: ended.names, doing: "saving") ?? error
      }
    }
    ended.reportFailure(format, console)
    if let failure = outcome.failure(names: ended.names, doing: isComplete ? "running again" : "saving") {
      throw failure
    }
    report(ended, toError: file.isStandardOutput, console)
    if keepStopped { _ = try SessionSupport.holdStopped(group, session, peers, console) }
  }

  private func report(_ ended: EndedSession<SaveSession>, toError: Bool, _ console: Console) {
    let (began, end) = (ended.machine.stopBegan, ended.machine.stopEnded)
    let downtime = keepStopped ? nil : began.flatMap { began in end.map { $0.microseconds(since: began) } }
    let summary =
      (downtime.map { "stopped for \(Figures.time($0)), " } ?? "stopped; ") + "\(Figures.time(ended.took)) in all"
    // Where the stream itself goes to standard output, the report goes the other way.
    ended.report(
      place: ("file", output), downtime: downtime, summary: summary, format,
      toError ? console.note : { console.line($0) })
  }
}
