// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration
internal import VFIO

struct WalkCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "walk", abstract: "Take every legal arc of a device once and report each.",
    discussion: """
      For looking at a driver: the device is opened (a PCI device is reset by that), taken through its whole graph, its \
      state read where it can be and written back where it can be, and left running. A device that a process holds \
      (--pid) needs --force; that process must not run its vCPUs or touch the device meanwhile.
      """)

  @OptionGroup var format: FormatOptions
  @OptionGroup var access: DeviceOptions

  @Flag(help: "Walk a device that --pid names.")
  var force = false

  @Flag(help: "Reset the device if it ends in error. What its guest had in it is lost.")
  var resetOnError = false

  @Argument(help: ArgumentHelp("The device.", valueName: "DEV"))
  var device: String

  var changesDevices: Bool { true }

  func execute(_ console: Console) throws {
    if access.pid != nil, !force { throw CommandFailure.refused(StateCommand.needsForce) }
    try SignalDesk.open()
    let opened = try DeviceAccess(way: access.way).open([device], console: console)[0]
    let device = opened.device
    var stepper: StateStepper
    let image: ImageSpool
    do {
      stepper = try StateStepper(device)
      image = try ImageSpool()
    } catch let error as DeviceError {
      if error.errno == .notTypewriter { throw CommandFailure.refused(DeviceAccess.notMigratable(opened.record)) }
      throw CommandFailure.failed("\(device.name): \(error)")
    } catch {
      throw CommandFailure.failed("\(error)")
    }
    guard stepper.state == .running else {
      throw CommandFailure.refused("\(device.name) is in \(stepper.state): a walk begins in running")
    }
    var steps: [StateStepper.Step] = []
    func report(_ step: StateStepper.Step) {
      steps.append(step)
      if !format.wantsJSON { console.line(step.line) }
    }
    for next in WalkPlan(graph: stepper.graph, from: stepper.state).states {
      let opens = stepper.graph.opensData(from: stepper.state, to: next)
      var step = stepper.step(to: next)
      if step.error == nil { step = transfer(step, opens: opens, stepper, image) }
      report(step)
      if step.error != nil || SignalDesk.end != nil { break }
    }
    let failed = steps.first { $0.error != nil }
    var wasReset = false
    if stepper.knownState != .running || failed != nil {
      wasReset = goBack(&stepper, after: failed, report, console)
    }
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
    if let failed {
      throw CommandFailure.failed(
        "\(device.name): \(failed.error.map { "\($0)" } ?? ""); \(stepper.place)")
    }
  }

  /// Moves the device's state where the step allows it, so that the arcs after it find what they need.
  private func transfer(
    _ step: StateStepper.Step, opens: Bool, _ stepper: StateStepper, _ image: ImageSpool
  ) -> StateStepper.Step {
    var step = step
    guard let data = stepper.data else { return step }
    do throws(DeviceError) {
      if stepper.state.isSaving {
        step.bytes = try image.read(data, isNew: opens, toTheEnd: stepper.state == .stopCopy)
      } else if stepper.state == .resuming {
        step.bytes = try image.write(data)
      }
      return step
    } catch {
      return StateStepper.Step(
        from: step.from, asked: step.asked, state: step.state, microseconds: step.microseconds, error: error)
    }
  }

  /// Takes the device back to running, on the rungs of the ladder.
  /// - Returns: whether it was reset on the way.
  private func goBack(
    _ stepper: inout StateStepper, after failed: StateStepper.Step?, _ report: (StateStepper.Step) -> Void,
    _ console: Console
  ) -> Bool {
    // A device in resuming holds a part of its own image: only a reset gets it out.
    var ladder = RecoveryLadder(graph: stepper.graph, resetAllowed: resetOnError || stepper.state == .resuming)
    if let failed { ladder.noteFailure(of: failed.asked, recovering: false) }
    while true {
      // A device that does not say where it is may be anywhere: nothing but a reset is safe.
      switch ladder.next(from: stepper.knownState ?? .error, to: .running) {
      case .arrived, .report: return false
      case .request(let next):
        let step = stepper.step(to: next)
        report(step)
        if step.error != nil { ladder.noteFailure(of: next, recovering: true) }
      case .reset: return stepper.reset(console)
      }
    }
  }
}
