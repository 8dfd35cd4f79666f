// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration
internal import Topology
internal import VFIO

struct StateCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "state", abstract: "Show a device's migration state, or take it through states on purpose.",
    discussion: """
      Without --through nothing is bound: the state comes from debugfs or, with --pid or --fd, from the device.

      With --through the device is opened (a PCI device is reset by that) and asked for one state after the other. It \
      is left where the kernel left it; but a PCI device forgets everything when this program ends, and is running \
      again then, unless somebody else holds it. A signal ends the way after the request that is under way.

      On a device that a process holds (--pid), changing the state needs --force. Until the device is running again, \
      that process must not run its vCPUs, touch the device's regions, or change the state itself.
      """)

  @OptionGroup var format: FormatOptions
  @OptionGroup var access: DeviceOptions

  @Option(
    help: ArgumentHelp(
      "Ask for these states in turn: running, running-p2p, pre-copy, pre-copy-p2p, stop, stop-copy, resuming.",
      valueName: "S,S,…"))
  var through: String?

  @Flag(help: "Send what the migration graph refuses, and go on after errors. With --pid: change the device at all.")
  var force = false

  @Flag(help: "With --pid and --force: send what the migration graph refuses, too, and go on after errors.")
  var ignoreGraph = false

  @Flag(help: "Reset the device if it ends in error. What its guest had in it is lost.")
  var resetOnError = false

  @Argument(help: ArgumentHelp("The device.", valueName: "DEV"))
  var device: String

  var changesDevices: Bool { through != nil }

  func execute(_ console: Console) throws {
    let deviceAccess = DeviceAccess(way: access.way)
    guard let through else {
      try show(deviceAccess, console)
      return
    }
    var states: [MigrationState] = []
    for name in through.split(separator: ",", omittingEmptySubsequences: false) {
      guard let state = MigrationState(name: name) else {
        throw CommandFailure.misuse("there is no state \"\(name)\"; the states are \(Self.askable)")
      }
      states.append(state)
    }
    if access.pid != nil, !force { throw CommandFailure.refused(Self.needsForce) }
    try SignalDesk.open()
    let opened = try deviceAccess.open([device], console: console)[0]
    try walk(opened, states, deviceAccess, console)
  }

  private static let askable = MigrationState.allCases.filter { $0 != .error }.map(\.name).joined(separator: ", ")

  static let needsForce =
    "changing a device that another process holds needs --force; until it is running again that process must not run "
    + "its vCPUs, touch the device's regions, or change its state"

  private func show(_ deviceAccess: DeviceAccess, _ console: Console) throws {
    let record = try deviceAccess.record(DeviceAccess.name(device))
    guard record.isOnVFIO else { throw CommandFailure.refused(DeviceAccess.notOnVFIO(record)) }
    if record.isMigratable == false { throw CommandFailure.refused(DeviceAccess.notMigratable(record)) }
    let state: MigrationState
    if access.way.binds {
      guard let known = record.debugState else {
        throw CommandFailure.failed(
          "debugfs does not tell the state of \(record.name): mount it (Linux 6.8 with VFIO_DEBUGFS), run as root, or "
            + "name the process that holds the device with --pid")
      }
      state = known
    } else {
      let device = try deviceAccess.open(record, console: console)
      do throws(DeviceError) {
        state = try device.migrationState()
      } catch {
        if error.errno == .notTypewriter { throw CommandFailure.refused(DeviceAccess.notMigratable(record)) }
        throw CommandFailure.failed("\(record.name): \(error)")
      }
    }
    if format.wantsJSON {
      console.json(.object(["name": .string("\(record.name)"), "state": .string(state.name)]), format)
    } else {
      console.line(state.name)
    }
  }

  private func walk(
    _ opened: OpenDevice, _ states: [MigrationState], _ deviceAccess: DeviceAccess, _ console: Console
  ) throws {
    let device = opened.device
    // On somebody else's device --force is what it takes to do anything, so it can't mean more than that.
    let ignoresGraph = ignoreGraph || (force && access.way.pid == nil)
    var stepper: StateStepper
    do throws(DeviceError) {
      stepper = try StateStepper(device)
    } catch {
      if error.errno == .notTypewriter { throw CommandFailure.refused(DeviceAccess.notMigratable(opened.record)) }
      throw CommandFailure.failed("\(device.name): \(error)")
    }
    var wasReset = false
    if access.way.binds, stepper.state == .resuming {
      // Its data session ended with whoever opened it, and a driver may not survive another request (mtty does not).
      guard resetOnError else {
        throw CommandFailure.refused(
          "\(device.name) is in resuming, and the session that filled it is gone: only a reset helps (--reset-on-error)"
        )
      }
      wasReset = stepper.reset(console)
    }
    if !ignoresGraph {
      var state = stepper.state
      for next in states {
        if let refusal = stepper.graph.refusal(from: state, to: next) {
          throw deviceAccess.refusal("\(device.name) can't go from \(state) to \(next): \(refusal)", of: [opened])
        }
        state = next
      }
    }
    var steps: [StateStepper.Step] = []
    for next in states {
      if SignalDesk.end != nil { break }
      let step = stepper.step(to: next)
      steps.append(step)
      if !format.wantsJSON { console.line(step.line) }
      if step.error != nil, !ignoresGraph { break }
    }
    let failed = steps.first { $0.error != nil }
    if stepper.state == .error, resetOnError { wasReset = stepper.reset(console) }
    if format.wantsJSON {
      console.json(
        .object([
          "name": .string("\(device.name)"), "steps": .array(steps.map(\.json)),
          "state": JSON(stepper.knownState?.name),
          "reset": .bool(wasReset),
        ]), format)
    }
    if let signal = SignalDesk.end {
      throw CommandFailure.failed("\(device.name): signal \(signal) came; \(stepper.place)")
    }
    if stepper.state == .resuming, access.way.binds {
      console.note("\(device.name) is left in resuming, and its session ends here: only a reset brings it back")
    }
    if let failed {
      throw CommandFailure.failed(
        "\(device.name): \(failed.error.map { "\($0)" } ?? ""); \(stepper.place)")
    }
  }
}
