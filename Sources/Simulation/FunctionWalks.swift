// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// A call that a function of the world carries out: the arcs of a request for a state one after the other, or a flush.
struct FunctionCall: Sendable {
  let number: Int
  /// States that it has to reach yet, the next one first; none where it is flushed.
  var path: [MigrationState]
}

/// Where a device is a function of the world, its driver's calls become commands over the fabric.
extension SimulatedWorld {
  /// Begins a call, where the function has a part in it. - Returns: false where it has none, or none that succeeds.
  mutating func beginFunctionCall(
    _ side: SimulatedSide, _ device: Int, _ call: SimulatedHost.Lane<ControlRequest>.Call
  ) -> Bool {
    guard machines != nil else { return false }
    switch (call.job, call.script) {
    case (.setState(let target), nil), (.setState, .fails(_, .at(let target))):
      return target == .error ? false : walk(side, device, to: target, call: call.number)
    case (.setState, .hangs(let extra)):
      // Nothing reaches the function until then.
      if let extra {
        queue.put(.functionBegins(side, device: device, call: call.number), at: now.adding(microseconds: extra))
      }
      return true
    case (.flush, nil):
      functionCalls[side.rawValue][device] = FunctionCall(number: call.number, path: [])
      machines?.flush(host: side.rawValue, device: device)
      return true
    default: return false
    }
  }

  /// A driver that hung sends its command at last.
  mutating func beginLate(_ side: SimulatedSide, _ device: Int, _ number: Int) {
    guard !isKilled[side.rawValue], let call = hosts[side.rawValue].control[device].call, call.number == number,
      case .setState(let target) = call.job
    else { return }
    if !walk(side, device, to: target, call: number) { endControl(side, device, number) }
  }

  private mutating func walk(_ side: SimulatedSide, _ device: Int, to target: MigrationState, call: Int) -> Bool {
    let index = side.rawValue
    let driver = hosts[index].devices[device]
    guard let path = driver.graph.path(from: driver.state, to: target), let first = path.first else { return false }
    if driver.state == .resuming, !loadFunction(side, device) {
      // Only what the engine takes for a whole image leaves RESUMING by an arc.
      find("device \(device) of the \(side) refuses the image that it was given as a whole one")
      hosts[index].devices[device].functionRefusesImage = true
      return false
    }
    functionCalls[index][device] = FunctionCall(number: call, path: path)
    noteDeparture(side, device, to: first)
    machines?.setState(host: index, device: device, to: first)
    return true
  }

  /// What functions have answered.
  mutating func takeAnswers() {
    for answer in machines?.takeAnswers() ?? [] {
      switch answer {
      case .reached(let host, let device, let state): reach(host, device, state)
      case .flushed(let host, let device):
        guard let call = functionCalls[host][device], call.path.isEmpty else { continue }
        functionCalls[host][device] = nil
        endControl(host == 0 ? .source : .destination, device, call.number)
      }
    }
  }

  private mutating func reach(_ host: Int, _ device: Int, _ state: MigrationState) {
    let side: SimulatedSide = host == 0 ? .source : .destination
    if restartIsForced(host, device, state) { return }
    guard var call = functionCalls[host][device], call.path.first == state else { return }
    call.path.removeFirst()
    if let next = call.path.first {
      functionCalls[host][device] = call
      machines?.setState(host: host, device: device, to: next)
    } else {
      functionCalls[host][device] = nil
      endControl(side, device, call.number)
    }
  }

  /// After a guest's reset a command that was under way is not answered: the driver begins anew.
  mutating func resumeFunctionCall(_ side: SimulatedSide, _ device: Int) {
    // A reading of configuration space is answered all the same.
    guard let call = functionCalls[side.rawValue][device], !call.path.isEmpty else { return }
    functionCalls[side.rawValue][device] = nil
    beginLate(side, device, call.number)
  }

  // MARK: What is in a function

  /// Whether the driver has to know what is in its function to answer that.
  func asksFunction(_ state: MigrationState, _ request: ControlRequest) -> Bool {
    guard machines != nil else { return false }
    switch request {
    case .setState(let target): return target.isSaving || state.isSaving
    case .preCopyInfo: return state.isSaving
    case .readState, .stopCopySize, .flush, .reset: return false
    }
  }

  /// After a call the function is where its driver says it is, also where the call did not go through the fabric.
  mutating func followFunction(
    _ side: SimulatedSide, _ device: Int, from before: MigrationState, after request: ControlRequest,
    _ result: Result<ControlAnswer, DeviceError>
  ) {
    guard machines != nil else { return }
    let state = hosts[side.rawValue].devices[device].state
    if request == .reset, case .success = result {
      functionCalls[side.rawValue][device] = nil
      machines?.reset(host: side.rawValue, device: device)
    } else if state == .error, before != .error {
      machines?.fail(host: side.rawValue, device: device)
    } else if before == .resuming, state == .stop {
      compareFunction(device)
    }
  }

  /// The driver asks the function what has changed in it.
  mutating func askFunction(_ side: SimulatedSide, _ device: Int) {
    guard let changed = machines?.takeChangedRecords(host: side.rawValue, device: device), let machines else { return }
    let host = side.rawValue
    hosts[host].devices[device].update(
      changed.map { ($0, machines.record($0, host: host, device: device)) },
      count: machines.recordCount(host: host, device: device))
  }

  /// The driver gives the function the image that was written. - Returns: whether it takes it.
  private mutating func loadFunction(_ side: SimulatedSide, _ device: Int) -> Bool {
    let host = side.rawValue
    let content = hosts[host].devices[device].content
    let renumbered = numberToForge(device, content)
    do throws(DeviceImageError) {
      for index in 0..<content.count {
        var words = content.words(ofRecord: index)
        if index == renumbered { words[1] = Self.forgedNumber(words[1]) }
        try machines?.load(index, words, host: host, device: device)
      }
      try machines?.checkLoaded(host: host, device: device)
      return true
    } catch {
      return false
    }
  }
}
