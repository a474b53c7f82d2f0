"""Common English words for the tokenizer, so that text outside the grammar does not fall apart into bytes."""

_TEXT = """
    the of and to in is that it was for on are as with his they at be this from have or by one had not but what all
    were when we there can an your which their said if do will each about how up out them then she many some so these
    would other into has more her two like him see time could no make than first been its who now people my made over
    did down only way find use may water long little very after word words called just where most know get through
    back much before go good new write our used me man too any day same right look think also around another came
    come work three must because does part even place well such here take why things help put years different away
    again off went old number great tell men say small every found still between name should home big give air line
    set own under read last never us left end along while might next sound below saw something thought both few those
    always looked show large often together asked house world going want school important until form food keep
    children feet land side without boy once animals life enough took sometimes four head above kind began almost
    live page got earth need far hand high year mother light parts country father let night following picture being
    study second eyes soon times story boys since white days ever paper hard near sentence better best across during
    today others however sure means knew try told young miles sun ways thing whole hear example heard several change
    answer room sea against top turned learn point city play toward five using himself usually money seen car morning
    given order open ground cold really table remember tree course front space inside ago sad early learned brought
    close nothing though idea lived became add become grow draw yet less wind behind cannot letter among able dog
    shown mean english rest perhaps certain six feel fire ready green yes built special ran full town complete oh
    person hot anything hold state list stood hundred ten fast kept notice strong voice probably area horse matter
    stand box start third river island window door summer winter spring autumn question problem power system model
    training step loss weight token reward gradient checkpoint save load resume promote sample prompt message user
    assistant function argument value string number integer list object true false null return import class while
    error result data row column file folder path name type index length count total average maximum minimum
    computer program language machine network server client request response account key secret public private
    customer order invoice price ticket support team review product service email phone address street village
    doctor nurse hospital medicine health pain sleep exercise weather rain snow storm cloud sky moon star planet
    music song dance film game ball team player score goal match coach travel train bus plane ship boat road bridge
    coffee tea milk sugar salt pepper butter meat fish chicken potato tomato onion lemon orange banana breakfast
    lunch dinner kitchen bottle glass plate knife fork spoon shirt shoes hat coat dress pocket metal wood stone
    paper plastic gold silver iron copper history science mathematics physics chemistry biology art culture law
    government company market business industry research university student teacher lesson book library museum
    explain describe compare summarise translate calculate choose decide believe understand consider suggest prefer
    continue finish repeat replace remove create update delete search check test measure improve increase reduce
    because although therefore however instead whether unless except besides despite quickly slowly carefully
    exactly nearly finally suddenly clearly simply possible impossible necessary available similar different useful
    beautiful dangerous expensive cheap empty wrong correct easy difficult simple common rare quiet loud bright dark
    first second third fourth fifth sixth seventh eighth ninth tenth eleven twelve thirteen twenty thirty forty fifty
    sixty seventy eighty ninety hundred thousand million january february march april june july august september
    october november december north south east west please sorry thanks welcome goodbye maybe certainly of course
    sir madam friend brother sister uncle aunt cousin neighbour stranger king queen captain soldier hunter writer
"""

COMMON_WORDS = tuple(_TEXT.split())
"""Lower-case; repeated words only weigh more."""
