"""The services of DSP0287 clause 7: what a device asks of the requester it connects to.

The requester's side is a `Visit`: one conversation with one device, as an exchange that any driver
runs. The device's side is a `ServiceDesk`, which a device registers for vendor-defined requests.

    catalogue     which services there are, and where their messages are valid
    requests      the four requests, as exchanges
    content       what SET_REFERENCE and SET_POLICY carry
    provider      what a requester offers
    visit         the conversation with one device
    rooms         where a service is performed: in which session, or in none
    performing    each service, as the requester performs it
    wishes        what a device wants, and how it corrects what was refused
    desk          the device's side
    holdings      what a device was given, on its disk
    evaluation    a device judges itself by what it was given
    turns         whose turn it is, when many want one
    listening     a requester that serves many devices at once
    dialling      a device that connects, and connects again
"""
